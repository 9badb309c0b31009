"""Rewards instead of targets: contextual bandits, and who plays them.

bandit  games between agents and a contextual bandit, all dealt by a key
agents  who plays: networks with a prior, and the linear agents of the field
"""

"""The same numbers in less time.

fast     the contrastive rule on the sine network, its backward pass written out
kernel   the same as one kernel of a GPU
devices  a meta-batch that is shared by several devices
"""

"""Large arrays that lie in a file beside the page, loaded when the figure comes near: trained parameters. beside.js puts them into their program."""

import base64
import hashlib
from typing import NamedTuple

import numpy as np


class Beside(NamedTuple):
    """Arrays of float32, each number exact in 16 bits, of a file that `name` and their digest name; whoever builds pages writes `script` there."""

    name: str
    arrays: tuple

    @property
    def key(self) -> str:
        """Another file for other numbers, so that no page finds those of another time."""
        return f"{self.name}-{hashlib.sha256(b''.join(self._halves())).hexdigest()[:8]}"

    @property
    def file(self) -> str:
        return f"{self.key}.js"

    @property
    def script(self) -> str:
        """The file's text: a script, since a page that was opened as a file can load nothing else."""
        texts = ",".join(f'"{base64.b64encode(half).decode()}"' for half in self._halves())
        return f'CMLBeside.files["{self.key}"]=[{texts}];\n'

    def lent(self, program: dict) -> dict:
        """The program with each constant that is one of the arrays replaced by its number here, in a list. Raises ValueError where one is none."""
        places = {base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode(): k for k, array in enumerate(self.arrays)}
        constants = [[kind, [places[value]] if value in places else value] for kind, value in program["constants"]]
        found = {value[0] for _, value in constants if isinstance(value, list)}
        if missing := set(range(len(self.arrays))) - found:
            raise ValueError(f"{self.name}: the program does not use array {min(missing)} as it is; leave it out.")
        return program | {"constants": constants}

    def _halves(self):
        halves = [np.ascontiguousarray(array, "<f2") for array in self.arrays]
        for half, array in zip(halves, self.arrays):
            if not (half.astype(np.float32) == array).all():
                raise ValueError(f"{self.name}: 16 bits do not hold these numbers exactly; round them before they are used.")
        return [half.tobytes() for half in halves]

"""Universal Binary JSON, as XGBoost writes it, to plain Python values (https://ubjson.org, draft 12).

Every length is held against what is left of the file before anything is made, so that a damaged file is an error and not a crash.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

DEEPEST = 64
SIZES = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
CONSTANTS = {"Z": None, "T": True, "F": False}


def decode(payload: bytes) -> Any:
    """The value a file holds. ValueError when it is damaged or goes on after its value."""
    reader = _Reader(payload)
    value = reader.value(reader.marker(), 0)
    if reader.place != len(payload):
        raise ValueError(f"{len(payload) - reader.place} bytes follow the end")
    return value


class _Reader:
    """A place in the bytes that moves on."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.place = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.place + count > len(self.payload):
            raise ValueError(f"it ends at byte {len(self.payload)} in the middle of a value")
        self.place += count
        return self.payload[self.place - count : self.place]

    def marker(self) -> str:
        return self.take(1).decode("latin-1")

    def number(self, kind: str) -> Any:
        kind = SIZES[kind][1:]
        code = {"i1": ">b", "u1": ">B", "i2": ">h", "i4": ">i", "i8": ">q", "f4": ">f", "f8": ">d"}[kind]
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def length(self) -> int:
        kind = self.marker()
        if kind not in "iUIlL":
            raise ValueError(f"byte {self.place - 1} should begin a length")
        return int(self.number(kind))

    def text(self) -> str:
        return self.take(self.length()).decode()

    def value(self, kind: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        if kind in SIZES:
            return self.number(kind)
        if kind in CONSTANTS:
            return CONSTANTS[kind]
        if kind == "S":
            return self.text()
        if kind == "C":
            return self.marker()
        if kind == "[":
            return self.array(depth)
        if kind == "{":
            return self.mapping(depth)
        raise ValueError(f"byte {self.place - 1} begins no value")

    def array(self, depth: int) -> list[Any]:
        kind = self.peeked("$")
        if kind is not None:
            if kind not in SIZES or self.marker() != "#":
                raise ValueError(f"byte {self.place - 1} begins no typed array")
            dtype = np.dtype(SIZES[kind])
            count = self.length()
            if count < 0:
                raise ValueError("an array has a negative length")
            numbers: list[Any] = np.frombuffer(self.take(count * dtype.itemsize), dtype=dtype).tolist()
            return numbers
        counted = self.counted()
        values: list[Any] = []
        while counted is None or len(values) < counted:
            mark = self.marker()
            if counted is None and mark == "]":
                break
            values.append(self.value(mark, depth + 1))
        return values

    def mapping(self, depth: int) -> dict[str, Any]:
        counted = self.counted()
        found: dict[str, Any] = {}
        passed = 0
        while counted is None or passed < counted:
            if counted is None and self.payload[self.place : self.place + 1] == b"}":
                self.place += 1
                break
            name = self.text()
            found[name] = self.value(self.marker(), depth + 1)
            passed += 1
        return found

    def peeked(self, mark: str) -> str | None:
        """The marker after `mark` when that comes next."""
        if self.payload[self.place : self.place + 1] != mark.encode():
            return None
        self.place += 1
        return self.marker()

    def counted(self) -> int | None:
        """How many values follow, when the file says so before them; each takes at least a byte."""
        if self.payload[self.place : self.place + 1] != b"#":
            return None
        self.place += 1
        count = self.length()
        if not 0 <= count <= len(self.payload) - self.place:
            raise ValueError("it ends in the middle of a list")
        return count

"""Parser of a compiled program's text: its instructions, and how often each of them runs.

XLA prints an optimised program as computations, one of which is the entry. Loops call their bodies, and fusions name
the computation that they consist of. XLA's own cost analysis counts the body of a loop once; here it counts as often as
it runs.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_BRACKET = re.compile(r"[()]")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d\w*)?)\[([\d,]*)\](?:\{([^{}]*)\})?")
_BITS = {"pred": 8, "token": 0, "opaque": 0}  # other names contain their number of bits: f32, bf16, s4, f8e4m3fn


class HloError(ValueError):
    """A program that cannot be parsed."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str  # as printed: an array or a tuple, with layouts
    opcode: str
    operands: tuple[str, ...]  # names; for a constant, its value
    attributes: str  # the text after the operands

    def called(self, attribute: str) -> str | None:
        """Returns the name of a computation, by attribute: "body", "condition", "calls", "to_apply"; None if absent."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found and found[1]


@dataclasses.dataclass(frozen=True)
class Computation:
    """A computation: its instructions by name, in printed order, and the name of its root."""

    instructions: dict[str, Instruction]
    root: str


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program: its computations by name."""

    computations: dict[str, Computation]
    entry: str
    num_devices: int


def parse(text: str) -> Program:
    """Parses the text of `compiled.as_text()`.

    Raises:
      HloError: the text has no entry computation.
    """
    computations, entry = {}, None
    name, instructions, root = None, {}, None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name, instructions, root = header[2], {}, None
            if header[1]:
                entry = name
        elif line.startswith("}") and name is not None:
            computations[name] = Computation(instructions, root)
            name = None
        elif name is not None and (found := _INSTRUCTION.match(line)):
            instructions[found[2]] = _instruction(found[2], found[3])
            if found[1]:
                root = found[2]
    if entry is None:
        raise HloError("the program's text has no ENTRY computation")
    devices = [int(found[1]) for found in re.finditer(r"\bnum_(?:partitions|replicas)=(\d+)", text.split("\n", 1)[0])]
    return Program(computations, entry, max(devices, default=1))


def walk(program: Program) -> Iterator[tuple[Instruction, int, Computation]]:
    """Yields every instruction that the device runs, how often it runs in one call, and its computation.

    Enters loops, calls and conditionals (every branch), but not fusions, each of which runs as one instruction.

    Raises:
      HloError: the text does not show how often a loop runs.
    """
    yield from _walk(program, program.entry, 1)


def trip_count(program: Program, loop: Instruction, computation: Computation) -> int:
    """Returns how often the body of a `while` of `computation` runs.

    GPU programs state it (known_trip_count). TPU programs do not: there, the loop must have a counter that starts at a
    constant, is increased by a constant and compared with a constant, as jax.lax.scan creates it.

    Raises:
      HloError: it is another kind of loop.
    """
    if known := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', loop.attributes):
        return int(known[1])
    try:
        condition = program.computations[loop.called("condition")]
        body = program.computations[loop.called("body")]
        limit_of = condition.instructions[condition.root]
        counter = _producer(condition, limit_of.operands[0])
        index = int(re.search(r"index=(\d+)", counter.attributes)[1])
        limit = _constant(condition, limit_of.operands[1])
        start = _constant(computation, _producer(computation, loop.operands[0]).operands[index])
        raised = _producer(body, body.instructions[body.root].operands[index])
        (by,) = [_constant(body, name) for name in raised.operands if _producer(body, name).opcode == "constant"]
        if raised.opcode != "add" or by < 1 or "direction=LT" not in limit_of.attributes:
            raise ValueError(f"{raised.opcode} by {by}")
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise HloError(f"cannot tell how often the loop {loop.name} runs ({error})") from error
    return max(0, math.ceil((limit - start) / by))


def arrays(shape: str) -> list[tuple[int, str]]:
    """Returns the bytes, without padding, and the layout, as printed, of each array of a printed shape."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        bits = _BITS.get(dtype)
        if bits is None:
            bits = int(re.search(r"\d+", dtype)[0])
        elements = math.prod(int(n) for n in dims.split(",") if n)
        found.append(((elements * bits + 7) // 8, layout))
    return found


def num_bytes(shape: str) -> int:
    """Returns the bytes of an array, or of all arrays of a tuple."""
    return sum(size for size, _ in arrays(shape))


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    opcode = _OPCODE.match(rest, end)
    if opcode is None:
        raise HloError(f"not an instruction: {rest[:100]}")
    close = _closing(rest, opcode.end() - 1)
    inside = rest[opcode.end() : close - 1]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside)) or tuple(inside.split(", ") if inside else ())
    return Instruction(name, rest[:end], opcode[1], operands, rest[close:])


def _closing(text: str, start: int) -> int:
    """Returns the position just after the bracket that closes the one at `start`."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket[0] == "(" else -1
        if depth == 0:
            return bracket.end()
    raise HloError(f"a bracket is not closed: {text[start : start + 100]}")


def _walk(program: Program, name: str, times: int) -> Iterator[tuple[Instruction, int, Computation]]:
    computation = program.computations[name]
    for instruction in computation.instructions.values():
        yield instruction, times, computation
        match instruction.opcode:
            case "while":
                turns = trip_count(program, instruction, computation)
                yield from _walk(program, instruction.called("condition"), times * (turns + 1))
                yield from _walk(program, instruction.called("body"), times * turns)
            case "call":
                yield from _walk(program, instruction.called("to_apply"), times)
            case "async-start":
                yield from _walk(program, instruction.called("calls"), times)
            case "conditional":
                branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
                names = re.findall(r"%?([\w.\-]+)", branches[1]) if branches else []
                names += [n for n in (instruction.called(f"{w}_computation") for w in ("true", "false")) if n]
                for branch in names:
                    yield from _walk(program, branch, times)


def _producer(computation: Computation, name: str) -> Instruction:
    """Returns the instruction that computes a value, looking through those that only move or convert it."""
    instruction = computation.instructions[name]
    while instruction.opcode in ("copy", "bitcast", "copy-done", "copy-start", "convert"):
        instruction = computation.instructions[instruction.operands[0]]
    return instruction


def _constant(computation: Computation, name: str) -> int:
    instruction = _producer(computation, name)
    if instruction.opcode != "constant":
        raise ValueError(f"{name} is not a constant")
    return int(instruction.operands[0])

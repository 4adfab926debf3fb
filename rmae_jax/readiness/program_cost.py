"""Collectives and memory traffic of a compiled program, and its compiler's estimate of its cycles."""

import dataclasses
import re

from rmae_jax.readiness.hlo import Computation, Instruction, Program, arrays, num_bytes, walk

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Instructions that only name values, and those whose work is counted elsewhere, as that of a loop in its body.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
_FREE |= {"while", "call", "conditional", "async-start", "optimization-barrier"}
_NO_WORK = ("AllocateBuffer", "ConcatBitcast", "Sharding")  # custom calls that only state where values are stored
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclasses.dataclass(frozen=True)
class Collective:
    """The collectives of one kind in one step, on one device."""

    count: int  # number of calls; one in a loop counts once per iteration
    bytes: int  # bytes of whole arrays: those summed, or the results of gathering
    sent: int  # bytes of these that a device has to send at least

    def __add__(self, other: "Collective") -> "Collective":
        return Collective(self.count + other.count, self.bytes + other.bytes, self.sent + other.sent)


def collectives(program: Program) -> dict[str, Collective]:
    """Returns the collectives by kind, those inside fusions too: TPU programs fuse some collectives with other work.

    Among n devices, each has to send (n - 1) / n of an array that is gathered or scattered, and twice that of an
    array that is summed on all of them (Chan et al., Collective communication: theory, practice, and experience, 2007).
    """
    found: dict[str, Collective] = {}
    for instruction, times, computation in walk(program):
        if instruction.opcode == "fusion":
            computation = program.computations[instruction.called("calls")]
            candidates = computation.instructions.values()
        else:
            candidates = [instruction]
        for each in candidates:
            kind = each.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                size = _exchanged(each, computation)
                n = _group_size(each, program)
                share = 1 if kind == "collective-permute" else (2 if kind == "all-reduce" else 1) * (n - 1) / n
                one = Collective(times, times * size, times * round(share * size))
                found[kind] = found[kind] + one if kind in found else one
    return found


def estimated_cycles(program: Program) -> int | None:
    """Returns the cycles of one step by the TPU compiler's own estimates; None if it gives none, as for GPUs.

    The estimates cover fusions and other computation. Collectives, kernels and copies that run concurrently with the
    computation have none.
    """
    cycles = [
        times * int(found[1])
        for instruction, times, _ in walk(program)
        if (found := re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes))
    ]
    return sum(cycles) if cycles else None


def kernels(program: Program) -> int:
    """Returns the number of calls of Pallas kernels in one step; the compiler does not estimate their time."""
    return sum(times for i, times, _ in walk(program) if '"tpu_custom_call"' in i.attributes)


def memory_traffic(program: Program) -> int:
    """Returns the bytes that one step reads from and writes to the device's main memory.

    Every instruction reads its operands and writes its results once. Arrays in on-chip memory (a layout with S(n), on
    TPU) do not count; of an array that is only sliced, or only updated in a slice, the slice counts.
    """
    return sum(times * _traffic(program, i, computation) for i, times, computation in walk(program))


def _exchanged(instruction: Instruction, computation: Computation) -> int:
    """Returns the larger of the bytes of inputs and outputs; the result of a "-start" contains both."""
    given = sum(num_bytes(computation.instructions[name].shape) for name in instruction.operands)
    result = num_bytes(instruction.shape)
    if instruction.opcode.endswith("-start") and instruction.shape.startswith("(("):
        result -= given
    elif instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        result = max(size for size, _ in arrays(instruction.shape))
    return max(given, result)


def _group_size(instruction: Instruction, program: Program) -> int:
    """Returns the number of participating devices: replica_groups={{0,1},{2,3}} and [2,2]<=[4] are pairs, {} is all."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", instruction.attributes):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", instruction.attributes):
        return int(found[1])
    return program.num_devices


def _is_in_memory(layout: str) -> bool:
    return re.search(r"S\([1-9]\d*\)", layout) is None


def _in_memory(shape: str) -> int:
    return sum(size for size, layout in arrays(shape) if _is_in_memory(layout))


def _traffic(program: Program, instruction: Instruction, computation: Computation) -> int:
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0
    if opcode == "custom-call" and any(f'"{name}"' in instruction.attributes for name in _NO_WORK):
        return 0
    if opcode in ("copy-start", "slice-start"):  # (result, operand, context), ((operand), result, context)
        source = computation.instructions[instruction.operands[0]].shape
        size, layout = arrays(instruction.shape)[0 if opcode == "copy-start" else 1]
        return size * (bool(_in_memory(source)) + _is_in_memory(layout))
    reads = 0
    for i, name in enumerate(instruction.operands):
        value = computation.instructions.get(name)
        if value is not None and (size := _in_memory(value.shape)):
            reads += min(size, _read_of(program, instruction, i, size))
    return reads + _written(program, instruction, computation)


def _read_of(program: Program, user: Instruction, i: int, size: int) -> int:
    """Returns the bytes that `user` reads of its i-th operand, which has `size` bytes."""
    if user.opcode in _SLICES and i == 0:
        return num_bytes(user.shape)
    if user.opcode == "dynamic-update-slice" and i == 0:
        return 0  # updated in place
    if user.opcode != "fusion":
        return size
    inside = program.computations[user.called("calls")].instructions
    given = next((x for x in inside.values() if x.opcode == "parameter" and x.operands == (str(i),)), None)
    return 0 if given is None else _read_inside(program, inside, given.name, size)


def _read_inside(program: Program, inside: dict[str, Instruction], name: str, size: int) -> int:
    read = 0
    for user in inside.values():
        for i, operand in enumerate(user.operands):
            if operand == name and user.opcode != "parameter":
                follow = user.opcode in ("bitcast", "reshape")
                read += _read_inside(program, inside, user.name, size) if follow else _read_of(program, user, i, size)
    return min(read, size)


def _written(program: Program, instruction: Instruction, computation: Computation) -> int:
    """Returns the bytes that an instruction writes to main memory."""
    sizes = arrays(instruction.shape)
    if instruction.opcode == "custom-call" and '"__cublas' in instruction.attributes:
        return sizes[0][0]  # without the workspace, which follows
    roots = [instruction]
    if instruction.opcode == "fusion":
        computation = program.computations[instruction.called("calls")]
        roots = [computation.instructions[computation.root]]
        if roots[0].opcode == "tuple":
            roots = [computation.instructions[name] for name in roots[0].operands]
    if len(roots) != len(sizes):
        return _in_memory(instruction.shape)
    total = 0
    for root, (size, layout) in zip(roots, sizes, strict=True):
        while root.opcode == "bitcast":
            root = computation.instructions[root.operands[0]]
        if _is_in_memory(layout):
            updates = root.opcode == "dynamic-update-slice"
            total += num_bytes(computation.instructions[root.operands[1]].shape) if updates else size
    return total

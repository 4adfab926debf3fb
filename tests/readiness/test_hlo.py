"""Programs whose text is written here, with answers counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from rmae_jax.readiness import hlo, program_cost
from rmae_jax.readiness.program_cost import Collective

# As a TPU program: a loop of three turns over a stack of weights, an update in place, and collectives, one of them in a
# fusion. S(1) is on-chip memory.
TPU = """HloModule jit_step, is_scheduled=true, num_partitions=4

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%multiplied (p0: bf16[8,16], p1: bf16[3,16,16], p2: s32[]) -> bf16[8,16] {
  %p0 = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[3,16,16]{2,1,0:T(8,128)(2,1)} parameter(1)
  %p2 = s32[]{:T(128)} parameter(2)
  %zero = s32[] constant(0)
  %slice = bf16[1,16,16]{2,1,0} dynamic-slice(%p1, %p2, %zero, %zero), dynamic_slice_sizes={1,16,16}
  %flat = bf16[16,16]{1,0} bitcast(%slice)
  ROOT %product = bf16[8,16]{1,0:T(8,128)(2,1)} convolution(%p0, %flat), dim_labels=bf_io->bf
}

%gathered (q0: f32[2,16]) -> f32[8,16] {
  %q0 = f32[2,16]{1,0} parameter(0)
  ROOT %all-gather.1 = f32[8,16]{1,0} all-gather(%q0), replica_groups=[1,4]<=[4], dimensions={0}
}

%body (state: (s32[], bf16[8,16], bf16[3,16,16], f32[3,8])) -> (s32[], bf16[8,16], bf16[3,16,16], f32[3,8]) {
  %state = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[3,16,16]{2,1,0}, /*index=3*/f32[3,8]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %copy.1 = s32[]{:T(128)S(6)} copy(%i)
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%copy.1, %one)
  %x = bf16[8,16]{1,0} get-tuple-element(%state), index=1
  %w = bf16[3,16,16]{2,1,0} get-tuple-element(%state), index=2
  %kept = f32[3,8]{1,0} get-tuple-element(%state), index=3
  %y = bf16[8,16]{1,0} fusion(%x, %w, %copy.1), calls=%multiplied, backend_config={"estimated_cycles":"100"}
  %row = f32[1,8]{1,0:T(8,128)S(1)} custom-call(), custom_call_target="AllocateBuffer"
  %zero.1 = s32[] constant(0)
  %saved = f32[3,8]{1,0} dynamic-update-slice(%kept, %row, %copy.1, %zero.1)
  ROOT %out = (s32[], bf16[8,16]{1,0}, bf16[3,16,16]{2,1,0}, f32[3,8]{1,0}) tuple(%next, %y, %w, %saved)
}

%test (state.1: (s32[], bf16[8,16], bf16[3,16,16], f32[3,8])) -> pred[] {
  %state.1 = (s32[]{:T(128)}, bf16[8,16]{1,0}, bf16[3,16,16]{2,1,0}, f32[3,8]{1,0}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  %limit = s32[]{:T(128)} constant(4)
  ROOT %less = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (x0: bf16[8,16], w0: bf16[3,16,16], k0: f32[3,8], g0: f32[2,16]) -> f32[8,16] {
  %x0 = bf16[8,16]{1,0} parameter(0)
  %w0 = bf16[3,16,16]{2,1,0} parameter(1)
  %k0 = f32[3,8]{1,0} parameter(2)
  %g0 = f32[2,16]{1,0} parameter(3)
  %start = s32[]{:T(128)} constant(1)
  %copy.2 = s32[]{:T(128)} copy(%start)
  %tuple.1 = (s32[], bf16[8,16]{1,0}, bf16[3,16,16]{2,1,0}, f32[3,8]{1,0}) tuple(%copy.2, %x0, %w0, %k0)
  %loop = (s32[], bf16[8,16]{1,0}, bf16[3,16,16]{2,1,0}, f32[3,8]{1,0}) while(%tuple.1), condition=%test, body=%body
  %z = bf16[8,16]{1,0} get-tuple-element(%loop), index=1
  %summed = (f32[3,8]{1,0}, f32[2,16]{1,0}) all-reduce(%k0, %g0), replica_groups={{0,1},{2,3}}, to_apply=%sum
  %first = f32[2,16]{1,0} get-tuple-element(%summed), index=1
  %copy-start.1 = (f32[2,16]{1,0:T(8,128)S(1)}, f32[2,16]{1,0}, u32[]{:S(2)}) copy-start(%first)
  %copy-done.1 = f32[2,16]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  ROOT %all = f32[8,16]{1,0} fusion(%copy-done.1), calls=%gathered, backend_config={"estimated_cycles":"7"}
}
"""

GPU = """HloModule jit_step, num_partitions=8

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %v = f32[4]{0} get-tuple-element(%p), index=1
  %start = f32[4]{0} all-reduce-start(%v), replica_groups={}, to_apply=%sum
  %done = f32[4]{0} all-reduce-done(%start)
  %gather = (f32[4]{0}, f32[32]{0}) all-gather-start(%done), replica_groups=[1,8]<=[8], dimensions={0}
  ROOT %t = (s32[], f32[4]{0}) tuple(%i, %done)
}

%test (p.1: (s32[], f32[4])) -> pred[] {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (x: (s32[], f32[4])) -> (s32[], f32[4]) {
  %x = (s32[], f32[4]{0}) parameter(0)
  ROOT %loop = (s32[], f32[4]{0}) while(%x), condition=%test, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
}
"""


def test_a_loop_counts_as_often_as_it_turns():
    program = hlo.parse(TPU)
    times = {instruction.name: times for instruction, times, _ in hlo.walk(program)}
    assert (times["loop"], times["y"], times["less"], times["all"]) == (1, 3, 4, 1)
    assert "product" not in times  # a fusion runs as one
    assert program_cost.estimated_cycles(program) == 3 * 100 + 7


def test_collectives_by_hand():
    summed, gathered = 3 * 8 * 4 + 2 * 16 * 4, 8 * 16 * 4
    assert program_cost.collectives(hlo.parse(TPU)) == {
        "all-reduce": Collective(1, summed, 2 * summed // 2),  # of pairs
        "all-gather": Collective(1, gathered, gathered * 3 // 4),
    }
    assert program_cost.collectives(hlo.parse(GPU)) == {
        "all-reduce": Collective(5, 5 * 16, 5 * 28),
        "all-gather": Collective(5, 5 * 128, 5 * 112),
    }
    assert program_cost.estimated_cycles(hlo.parse(GPU)) is None


def test_calls_of_kernels_count_as_often_as_their_loop_turns():
    kernel = '%y = bf16[8,16]{1,0} custom-call(%x, %w, %copy.1), custom_call_target="tpu_custom_call"'
    assert program_cost.kernels(hlo.parse(TPU)) == 0
    fusion = next(line for line in TPU.splitlines() if line.strip().startswith("%y = "))
    assert program_cost.kernels(hlo.parse(TPU.replace(fusion, f"  {kernel}"))) == 3


def test_memory_traffic_by_hand():
    x, layer, row, g0, k0, gathered = 8 * 16 * 2, 16 * 16 * 2, 8 * 4, 2 * 16 * 4, 3 * 8 * 4, 8 * 16 * 4
    scalar = 4
    # The product with one layer; the row that is written; the counter, of which a copy lies on chip, and constants.
    body = (x + layer + x) + (row + scalar) + 3 * scalar
    condition = 2 * scalar + 1
    entry = 2 * scalar + 2 * (k0 + g0) + g0 + gathered  # the counter's copy; what is summed; what goes on chip and out
    assert program_cost.memory_traffic(hlo.parse(TPU)) == 3 * body + 4 * condition + entry


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[2,3]{1,0:T(8,128)S(1)}", 24),
        ("(bf16[4]{0}, (u32[], s8[3]{0}), pred[5]{0})", 8 + 4 + 3 + 5),
        ("f8e4m3fn[7]{0}", 7),
        ("s4[7]{0}", 4),
        ("token[]", 0),
        ("f32[]", 4),
    ],
)
def test_bytes_of_shapes(shape, size):
    assert hlo.num_bytes(shape) == size


@pytest.mark.parametrize("change", ["direction=GT", "constant(x)", "parameter(0)"])
def test_a_loop_that_is_no_scan_is_an_error(change):
    text = {
        "direction=GT": TPU.replace("direction=LT", "direction=GT"),
        "constant(x)": TPU.replace("%limit = s32[]{:T(128)} constant(4)", "%limit = s32[]{:T(128)} negate(%i.1)"),
        "parameter(0)": TPU.replace("%start = s32[]{:T(128)} constant(1)", "%start = s32[]{:T(128)} parameter(4)"),
    }[change]
    with pytest.raises(hlo.HloError, match="cannot tell how often the loop loop runs"):
        program_cost.estimated_cycles(hlo.parse(text))


def test_no_program():
    with pytest.raises(hlo.HloError, match="no ENTRY"):
        hlo.parse("HloModule nothing\n")


def test_a_program_of_xla():
    """A scan of 5 turns over a stack of matrices: what it reads of the stack is the stack, once."""

    def scanned(x, stack):
        return jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, stack)[0]

    shapes = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((5, 64, 64), jnp.float32)
    program = hlo.parse(jax.jit(scanned).lower(*shapes).compile().as_text())
    loops = [(i, c) for i, _, c in hlo.walk(program) if i.opcode == "while"]
    assert [hlo.trip_count(program, *loop) for loop in loops] == [5]
    matrix = 64 * 64 * 4
    assert 5 * 3 * matrix <= program_cost.memory_traffic(program) <= 5 * 9 * matrix

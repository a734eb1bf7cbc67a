"""Counting in compiled programs, against what the programs do by construction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxgan.aot import hlo


def count(function, *shapes, devices=None):
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    jitted = jax.pmap(function, axis_name="i", devices=devices) if devices else jax.jit(function)
    return hlo.count(jitted.lower(*arguments).compile().as_text())


def f32(*shape):
    return shape, jnp.float32


def test_a_product_has_two_operations_for_each_pair():
    assert count(jnp.dot, f32(6, 5), f32(5, 7)).flops == 2 * 6 * 5 * 7
    assert count(lambda x, y: jnp.einsum("bij,bkj->bik", x, y), f32(3, 6, 5), f32(3, 7, 5)).flops == 2 * 3 * 6 * 5 * 7


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
    def inner(w, _):
        return jnp.tanh(w @ w), None

    def outer(w, _):
        return lax.scan(inner, w, None, length=5)[0] @ w, None

    cost = count(lambda w: lax.scan(outer, w, None, length=3)[0], f32(8, 8))
    assert cost.flops == (3 * 5 + 3) * 2 * 8**3 and cost.unknown_loops == 0


def test_a_loop_of_unknown_length_is_said_and_counted_once():
    def turn(x):
        return x @ x

    cost = count(lambda x: lax.while_loop(lambda x: jnp.sum(x) < 9.0, turn, x), f32(4, 4))
    assert cost.flops == 2 * 4**3 and cost.unknown_loops == 1


def test_the_costlier_of_two_branches_counts():
    cost = count(lambda x, p: lax.cond(p[0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x), f32(4, 4), f32(1))
    assert cost.flops == 2 * 2 * 4**3


@pytest.mark.parametrize(
    "size, kernel, options",
    [
        ((9, 8), (4, 3), {"window_strides": (2, 1), "padding": "SAME"}),
        ((9, 8), (3, 3), {"window_strides": (1, 1), "padding": ((-1, 2), (0, 3))}),
        ((5, 6), (4, 4), {"window_strides": (1, 1), "padding": ((2, 3), (3, 3)), "lhs_dilation": (2, 3)}),
        ((9, 9), (3, 2), {"window_strides": (1, 2), "padding": "VALID", "rhs_dilation": (2, 3)}),
        ((6, 6), (3, 3), {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2}),
        ((6, 6), (3, 3), {"window_strides": (1, 1), "padding": "SAME", "batch_group_count": 2}),
    ],
    ids=["stride", "padding", "dilated", "dilated kernel", "groups", "batch groups"],
)
def test_a_convolution_counts_products_with_real_numbers_only(size, kernel, options):
    """Ones convolved with ones count the products themselves, because those with zeros add nothing."""

    def convolve(x, k):
        return lax.conv_general_dilated(x, k, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    x, k = (4, *size, 6), (*kernel, 6 // options.get("feature_group_count", 1), 8)
    products = np.sum(convolve(jnp.ones(x), jnp.ones(k)))
    assert count(convolve, f32(*x), f32(*k)).flops == 2 * products


def test_bytes_are_what_is_read_and_written():
    assert count(lambda x: jnp.tanh(x) * 2 + 1, f32(1000)).bytes == 4000 + 4000
    assert count(jnp.dot, f32(6, 5), f32(5, 7)).bytes == 4 * (6 * 5 + 5 * 7 + 6 * 7)


def test_rows_taken_of_a_large_array_are_not_the_array():
    cost = count(lambda x, i: x[i] * 2.0, f32(100_000, 16), ((3,), jnp.int32))
    assert 2 * 3 * 16 * 4 <= cost.bytes < 5_000


def test_collectives_have_a_kind_a_size_and_a_number():
    def step(x):
        def turn(c, _):
            return c + lax.psum(c, "i"), None

        y, _ = lax.scan(turn, x, None, length=3)
        return lax.psum(y[:2], "i"), lax.all_gather(y, "i")

    cost = count(step, f32(4, 5, 7), devices=jax.devices()[:4])
    found = sorted((c.kind, c.sizes, c.bytes, c.times) for c in cost.collectives)
    assert found == [("all-gather", (140,), 560, 1), ("all-reduce", (14,), 56, 1), ("all-reduce", (35,), 140, 3)]


TPU = """HloModule tpu

%fused (p0: f32[8,128], p1: u8[9000,8,128], p2: s32[]) -> f32[8,128] {
  %p0 = f32[8,128]{1,0:T(8,128)S(1)} parameter(0)
  %p1 = u8[9000,8,128]{2,1,0:T(8,128)} parameter(1)
  %p2 = s32[]{:T(128)} parameter(2)
  %row = u8[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%p1, %p2, %p2, %p2), dynamic_slice_sizes={1,8,128}
  ROOT %sum = f32[8,128]{1,0:T(8,128)} add(%p0, %row)
}

%below (c: (s32[], f32[8,128])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %end = s32[]{:T(128)} constant(20)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %end), direction=LT
}

%turn (c.1: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %c.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%c.1), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%c.1), index=1
  %begin = f32[8,128]{1,0:T(8,128)} all-reduce-start(%x), to_apply=%plus, backend_config={"estimated_cycles":"2"}
  %sum.1 = f32[8,128]{1,0:T(8,128)} all-reduce-done(%begin)
  ROOT %next = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i.1, %sum.1)
}

ENTRY %main (a: f32[8,128], data: u8[9000,8,128], zero: s32[]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %data = u8[9000,8,128]{2,1,0:T(8,128)} parameter(1)
  %five = s32[]{:T(128)} constant(5)
  %copy-start = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %fusion = f32[8,128]{1,0:T(8,128)} fusion(%copy-done, %data, %five), calls=%fused, config={"estimated_cycles":"70"}
  %carry = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%five, %fusion)
  %while = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%carry), condition=%below, body=%turn
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%while), index=1
}
"""


def test_what_only_a_tpu_writes():
    """Copies to the chip's own memory, pairs of start and done, and loops whose length is in their condition."""
    cost = hlo.count(TPU)
    assert cost.collectives == (hlo.Collective("all-reduce", (1024,), 4096, 15),)
    # The copy reads `a`; the fusion reads a row of the data and its place, and writes; 15 all-reduces read and write.
    assert cost.bytes == 4096 + 1024 + 4 + 4096 + 15 * (4096 + 4096)
    assert cost.unknown_loops == 0 and cost.cycles == 70 + 15 * 2


@pytest.mark.parametrize(
    "axis, groups", [("a", [(0, 2), (1, 3)]), ("b", [(0, 1), (2, 3)]), (("a", "b"), [(0, 1, 2, 3)])], ids=str
)
def test_a_collective_s_devices_are_known(axis, groups):
    mesh, spec = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("a", "b")), PartitionSpec(("a", "b"))
    reduce = jax.shard_map(lambda x: lax.psum(x, axis), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    text = jax.jit(reduce).lower(jax.ShapeDtypeStruct((8, 3), jnp.float32)).compile().as_text()
    (collective,) = hlo.count(text).collectives
    assert sorted(collective.groups) == groups
    assert collective.is_within(2) == (axis == "b") and collective.is_within(4) and not collective.is_within(1)


@pytest.mark.parametrize(
    "attributes, groups",
    [
        ("replica_groups={{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("replica_groups=[4,2]<=[2,2,2]T(0,2,1)", ((0, 2), (1, 3), (4, 6), (5, 7))),
        ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
        ("replica_groups={}", None),
    ],
)
def test_all_ways_in_which_devices_are_written(attributes, groups):
    text = "ENTRY %main (p: f32[3]) -> f32[3] {\n  %p = f32[3]{0} parameter(0)\n"
    text += f"  ROOT %r = f32[3]{{0}} all-reduce(%p), {attributes}, use_global_device_ids=true, to_apply=%add\n}}\n"
    (found,) = hlo.count(text).collectives
    assert found.groups == groups and (groups is not None or not found.is_within(8))


CHAIN = """HloModule chain

%begin (p: f32[16]) -> (f32[16], f32[128]) {
  %p = f32[16]{0:T(128)} parameter(0)
  %g = f32[128]{0:T(128)} all-gather(%p), channel_id=1, dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %s = (f32[16]{0:T(128)}, f32[128]{0:T(128)}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%behind (p.1: f32[16], q: f32[128]) -> f32[128] {
  %p.1 = f32[16]{0:T(128)} parameter(0)
  %q = f32[128]{0:T(128)} parameter(1)
  %g.1 = f32[128]{0:T(128)} all-gather(%p.1), channel_id=1, dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %work = f32[128]{0:T(128)} add(%q, %q)
}

%end (p.2: f32[16]) -> f32[128] {
  %p.2 = f32[16]{0:T(128)} parameter(0)
  %g.2 = f32[128]{0:T(128)} all-gather(%p.2), channel_id=1, dimensions={0}, frontend_attributes={chain_id="0"}
  ROOT %d = f32[128]{0:T(128)} custom-call(%p.2, %g.2), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (a: f32[16], b: f32[128]) -> f32[128] {
  %a = f32[16]{0:T(128)} parameter(0)
  %b = f32[128]{0:T(128)} parameter(1)
  %one = (f32[16]{0:T(128)}, f32[128]{0:T(128)}) fusion(%a), kind=kCustom, calls=%begin
  %two = f32[128]{0:T(128)} fusion(%a, %b), kind=kCustom, calls=%behind
  %three = f32[128]{0:T(128)} fusion(%a), kind=kCustom, calls=%end
  ROOT %plain = f32[128]{0:T(128)} all-gather(%a), channel_id=2, dimensions={0}
}
"""


def test_a_collective_behind_other_work_is_one():
    """As v5e's compiler writes it: once in the fusion that begins it, in each that it passes, and where it ends."""
    assert hlo.count(CHAIN).collectives == (hlo.Collective("all-gather", (128,), 512, 1.0),) * 2

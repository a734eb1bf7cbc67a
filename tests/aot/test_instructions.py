"""Reading a compiled program's text."""

import pytest

from jaxgan.aot.instructions import Array, Frame, parse, window

TEXT = """HloModule toy, is_scheduled=true

%inner (p: f32[4]) -> f32[4] {
  ROOT %p = f32[4]{0:T(128)} parameter(0)
}

ENTRY %main (a: f32[4]) -> (f32[4], s32[]) {
  %a = f32[4]{0:T(128)S(1)} parameter(0), metadata={op_name="a"}
  %two = s32[]{:T(128)} constant(2)
  %pair = (f32[4]{0:T(128)}, /*index=1*/s32[]{:T(128)}) tuple(%a, %two)
  %second = s32[]{:T(128)} get-tuple-element(%pair), index=1
  ROOT %out.1 = (f32[4]{0:T(128)}, s32[]) call(%a, %two), to_apply=%inner, metadata={op_name="f(x)"}
}
"""


def test_a_program_is_its_computations_and_their_instructions():
    entry, computations = parse(TEXT)
    assert entry == "main" and list(computations) == ["inner", "main"]
    main = computations["main"]
    assert list(main) == ["a", "two", "pair", "second", "out.1"]
    assert main["two"].literal == "2" and main["two"].operands == ()
    assert main["pair"].operands == ("a", "two") and [array.dims for array in main["pair"].shape] == [(4,), ()]
    assert main["second"].index == 1
    assert main["out.1"].is_root and main["out.1"].opcode == "call" and main["out.1"].called("to_apply") == ["inner"]
    assert computations["inner"]["p"].literal == "0"


@pytest.mark.parametrize(
    "dims, width, layout, size",
    [
        ((64, 3), 4, "1,0:T(8,128)", 64 * 128 * 4),  # three channels fill up a row of 128
        ((3, 64), 4, "0,1:T(8,128)", 64 * 128 * 4),  # the same with the axes exchanged
        ((64, 3), 4, "0,1:T(4,128)", 4 * 128 * 4),
        ((5, 9, 130), 2, "2,1,0:T(8,128)(2,1)", 5 * 16 * 256 * 2),
        ((3,), 4, "0:T(128)", 128 * 4),
        ((7,), 1, "0:T(8,128)", 8 * 128),
        ((64, 3), 4, "1,0", 64 * 3 * 4),
        ((), 4, ":T(128)", 4),
    ],
)
def test_an_array_fills_whole_tiles(dims, width, layout, size):
    assert Array(dims, width, layout).bytes == size


def test_an_array_may_lie_in_a_memory_of_the_chip_itself():
    assert Array((4,), 4, "0:T(128)").in_memory and Array((4,), 4, "").in_memory
    assert not Array((4,), 4, "0:T(128)S(1)").in_memory


def test_a_window_has_a_frame_for_each_axis():
    text = "window={size=4x5 stride=2x1 pad=1_2x-1_0 lhs_dilate=1x2 rhs_dilate=3x1}, dim_labels=b01f_01io->b01f"
    assert window(text) == [Frame(2, 1, 1, 3), Frame(1, -1, 2, 1)]
    assert window("window={size=3}") == [Frame()] and window("dim_labels=bf_io->bf") == []

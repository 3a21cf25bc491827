"""The shorter ways through functions of the hosts answer what the functions answer."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from llmdiff.cli.host_shortcuts import _draw_nothing_on_meta, _order_plainly

ORDER = torch._prims_common.compute_elementwise_output_logical_to_physical_perm
DRAW = torch.nn.init.normal_


@given(st.data())
def test_the_order_of_dimensions_is_that_of_torch(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 3), max_size=5))
    device = data.draw(st.sampled_from(["cpu", "meta"]))
    tensor = torch.empty(sizes, device=device).permute(data.draw(st.permutations(range(len(sizes)))))
    assert _order_plainly(ORDER)(tensor) == ORDER(tensor)
    other = torch.empty(tensor.shape, device=device)
    assert _order_plainly(ORDER)(other, tensor) == ORDER(other, tensor)


def test_weights_without_memory_need_no_numbers_and_others_get_theirs() -> None:
    state = torch.get_rng_state()
    blank = torch.nn.Parameter(torch.empty(2, 3, device="meta"))
    assert _draw_nothing_on_meta(DRAW)(blank) is blank
    assert torch.equal(torch.get_rng_state(), state)
    drawn = _draw_nothing_on_meta(DRAW)(torch.empty(2, 3), std=2.0)
    torch.set_rng_state(state)
    assert torch.equal(drawn, DRAW(torch.empty(2, 3), std=2.0))

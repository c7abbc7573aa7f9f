import pytest
import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Batches, autocast, resolve_device


def test_out_of_memory_halves_the_batch_and_goes_on(caplog):
    tried = []

    def work(part):
        tried.append((part.start, part.stop))
        if part.stop - part.start > 3:
            raise torch.OutOfMemoryError
        return list(range(part.start, part.stop))

    batches = Batches(8)
    assert list(batches(5, work)) == [[0, 1], [2, 3], [4]]
    assert tried == [(0, 5), (0, 4), (0, 2), (2, 4), (4, 5)]
    assert caplog.messages == ["out of memory: batch halved to 4", "out of memory: batch halved to 2"]
    assert batches.size == 2  # and stays there


def test_other_errors_pass_through():
    def work(part):
        raise KeyError("not memory")

    with pytest.raises(KeyError):
        list(Batches(4)(4, work))


def test_memory_for_not_even_one_is_an_error():
    def work(part):
        raise torch.OutOfMemoryError

    with pytest.raises(WorkError) as caught:
        list(Batches(4)(4, work))
    assert str(caught.value) == "out of memory on a single image; use --device cpu or a smaller model"


def test_nothing_to_do_is_no_batch():
    assert list(Batches(4)(0, lambda part: part)) == []


def test_devices_are_found_by_name():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(RequestError) as caught:
        resolve_device(name)
    assert str(caught.value).startswith(f"device '{name}' cannot be used (")
    assert str(caught.value).endswith("); use --device cpu")


def test_precisions_take_turns_in_one_process():
    a = torch.ones(2, 2)
    kinds = []
    for precision in ("bf16", "no", "fp16", "bf16"):
        with autocast(torch.device("cpu"), precision):
            kinds.append((a @ a).dtype)
    assert kinds == [torch.bfloat16, torch.float32, torch.float16, torch.bfloat16]

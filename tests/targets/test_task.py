import torch

from sia_gen.targets.task import Regression


def test_the_output_of_one_value_is_its_signed_error():
    output = Regression(("age",), 1.0).output(torch.tensor([[3.0], [-1.0]]), torch.tensor([[1.0], [1.0]]))
    assert output.tolist() == [2.0, -2.0]


def test_errors_of_several_values_do_not_cancel():
    output = Regression(("x", "y"), 1.0).output(torch.tensor([[1.0, -7.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0]]))
    assert output.tolist() == [5.0, 1.0]

import torch

from sia_gen.attack.edit import edit
from tests.problems import linear_problem


def test_is_the_equation():
    problem = linear_problem()
    generator, space = problem.generator, problem.space
    codes = generator.sample(range(3))
    omega = torch.tensor([[0.5, -0.5, 1.0, 0.0]]).expand(3, 4)
    delta = torch.linspace(-0.6, 0.6, 3 * 32 * 32).view(1, 3, 32, 32).expand(3, -1, -1, -1)
    moved = codes + sum(omega[:, k, None] * space.directions[k] for k in range(4))
    expected = (0.5 + (moved @ generator.matrix.T).view(3, 3, 32, 32) + delta).clamp(0, 1)
    assert expected.min() == 0
    assert expected.max() == 1
    torch.testing.assert_close(edit(generator, space, codes, omega, delta), expected)
    rendered = edit(generator, space, codes, omega)
    torch.testing.assert_close(edit(None, space, rendered, delta=delta), expected)


def test_gives_at_least_float32():
    problem = linear_problem()
    assert edit(None, problem.space, torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert edit(None, problem.space, torch.zeros(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64

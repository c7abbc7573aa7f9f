"""A linear generator and a target with a planted cause: only attribute a1 reaches its output."""

import shutil

import pytest
import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.diagnose import audit
from tests.problems import linear_problem

PLANTED = "a1"
ATTACK = SemanticImageAttack(batch=4, steps=6, semantic_step=0.4)
FACES = 10


def run(problem, out=None, **changes):
    settings = {"faces": FACES, "attack": ATTACK, "out": out} | changes
    return audit(problem.generator, problem.target, problem.space, **settings)


@pytest.fixture
def problem():
    return linear_problem()


@pytest.fixture
def planted(problem):
    """The problem with weights that follow a1 and no other attribute, nor anything orthogonal to all of them."""
    known = problem.space.directions
    wanted = torch.zeros(len(known))
    wanted[problem.space.names.index(PLANTED)] = 1.5  # logits per unit of the attribute
    code_slope = torch.linalg.pinv(known) @ wanted  # [L], within the span of the attributes
    matrix = problem.generator.matrix.detach()  # [P, L]
    with torch.no_grad():
        problem.target.weight.copy_(torch.linalg.pinv(matrix).T @ code_slope)
    return problem


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    return run(linear_problem(), tmp_path_factory.mktemp("finished")).folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A run folder of `problem`, finished without a stop."""
    return shutil.copytree(finished_once, tmp_path / "finished")

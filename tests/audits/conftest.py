"""A linear generator and a target with a planted cause: only attribute a1 reaches its output."""

import shutil
from dataclasses import replace

import pytest
import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.diagnose import audit
from sia_gen.core.seeds import normals
from tests.problems import LinearGenerator, LinearProblem, LinearTarget, linear_problem, linear_space

PLANTED = "a1"
ATTACK = SemanticImageAttack(batch=4, steps=6, semantic_step=0.4)
FACES = 10


def run(problem, out=None, **changes):
    settings = {"faces": FACES, "attack": ATTACK, "out": out} | changes
    return audit(problem.generator, problem.target, problem.space, **settings)


@pytest.fixture(autouse=True)
def familiar(monkeypatch):
    """Pictures here are no faces; verifiers that read them are made for them."""
    monkeypatch.setattr("sia_gen.audits.evidence.witness.familiar", lambda generator, verifier: 1.0)


@pytest.fixture
def problem():
    return linear_problem()


@pytest.fixture
def planted():
    return planted_problem()


def planted_problem():
    """A target that follows a1 alone: no other attribute, nothing orthogonal to all of them."""
    generator, target = LinearGenerator(codes=24), LinearTarget()
    with torch.no_grad():
        generator.matrix.copy_(0.02 * normals([1], generator.matrix.shape, "even")[0])
    space = linear_space(generator)
    space = replace(space, directions=normals([1], space.directions.shape, "even directions")[0])
    wanted = torch.zeros(len(space.attributes))
    wanted[space.names.index(PLANTED)] = 1.5  # logits per unit of the attribute
    code_slope = torch.linalg.pinv(space.directions) @ wanted  # [L]
    with torch.no_grad():
        target.weight.copy_(torch.linalg.pinv(generator.matrix).T @ code_slope)
    return LinearProblem(generator, space, target)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    return run(linear_problem(), tmp_path_factory.mktemp("finished")).folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A run folder of `problem`, finished without a stop."""
    return shutil.copytree(finished_once, tmp_path / "finished")

"""The models of `tests.problems` and every attack of the table keep the contracts."""

import pytest

from tests.contracts import AttackSuite, GeneratorSuite, TargetSuite
from tests.problems import LinearGenerator, LinearTarget


class TestAttacks(AttackSuite):
    pass


class TestLinearGenerator(GeneratorSuite):
    @pytest.fixture
    def generator(self):
        return LinearGenerator()


class TestLinearTarget(TargetSuite):
    @pytest.fixture(params=[False, True], ids=["classifier", "regressor"])
    def target(self, request):
        return LinearTarget(regression=request.param)

    @pytest.fixture
    def images(self):
        generator = LinearGenerator()
        return generator.render(generator.sample(range(4))).detach()

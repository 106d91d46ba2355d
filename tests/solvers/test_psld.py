from dataclasses import dataclass

import pytest
import torch
from linear_codec import Coded

import sfumato as sf
from sfumato.codecs import Affine, Codec
from sfumato.estimate import Estimate
from sfumato.operators import Clip, Convolution, Mask, Matrix
from sfumato.processes import LinearBeta, Table
from sfumato.solvers import DPS, PSLD


@pytest.fixture(scope="module")
def turn():
    """An orthogonal one: W^T is its encoder."""
    return Coded(torch.linalg.qr(sf.Noise(11).normal(torch.zeros(3, 3).double()))[0])


@pytest.fixture(scope="module")
def turned(world, turn):
    Q = turn.W
    return sf.GaussianWorld(world.mean.reshape(3) @ Q, Q.T @ world.covs[0] @ Q)


def test_without_the_gluing_it_is_dps_of_the_pixels_turned(world, turned, turn, matrix, measured):
    """x1 = Q z1: every state of the latent run is that of the run on pixels, turned."""
    D, process = world.denoiser(LinearBeta()), LinearBeta()
    times, x1 = sf.grids.uniform(8), sf.Noise(1).normal(torch.zeros(3, 3).double())
    latent = PSLD(omega=0.3, gamma=0.0).trajectory(
        turned.denoiser(process), measured.to_model(turn), sf.Noise(2), x1=turn.encode(x1), times=times
    )
    x = x1
    for step in latent:
        torch.testing.assert_close(turn.decode(step.x), x, atol=1e-10, rtol=0)
        if step.index < 8:
            t, s = times[step.index], times[step.index + 1]
            free, pulled = (DPS(zeta=z).step(D, measured, x, t, s, None, sf.Noise(0))[0] for z in (0.0, 0.3))
            x = process.reverse(Estimate(D(x, t).mean), x, t, s, 0.0).mean + pulled - free


def energy(A, m, x, gamma):
    """The two norms in pixels, for an orthogonal turn, with A^T A a matrix."""
    r = m.y - x @ A.T
    return r.norm(dim=1) + gamma * (r @ A).norm(dim=1)


def test_the_energy_and_its_gradient(turned, turn, matrix, measured):
    """z_0 - E(A^T y + x - A^T A x) is -E(A^T r), whose norm a turn keeps; the pull by central differences."""
    D, m = turned.denoiser(LinearBeta()), measured.to_model(turn)
    solver, t, s = PSLD(omega=1.0, gamma=0.4), 0.5, 0.4
    z = sf.Noise(3).normal(torch.zeros(3, 3).double())
    got = solver.energy(m, D(z, t).mean)
    torch.testing.assert_close(got, energy(matrix.A, measured, D(z, t).mean @ turn.W.T, 0.4), atol=1e-12, rtol=0)
    free, moved = (PSLD(omega=w, gamma=0.4 * w).step(D, m, z, t, s, None, sf.Noise(0))[0] for w in (0.0, 1.0))
    h = 1e-6
    for i in range(3):
        e = torch.zeros(3, 3).double()
        e[:, i] = h
        slope = (
            energy(matrix.A, measured, D(z + e, t).mean @ turn.W.T, 0.4)
            - energy(matrix.A, measured, D(z - e, t).mean @ turn.W.T, 0.4)
        ) / (2 * h)
        torch.testing.assert_close((moved - free)[:, i], -slope, atol=1e-7, rtol=0)


class Lossy(Coded):
    """A decoder whose pictures the encoder reads as half as large: no z but 0 is its own code."""

    def encode(self, x):
        return 0.5 * x @ self.W


def test_gluing_is_neutral_where_it_should_be(turn):
    """Zero where y = A x, for any A; where y is noisy, only the part in the range of A^T counts; not if E forgets."""
    z0 = sf.Noise(4).normal(torch.zeros(1, 3).double())
    x = turn.decode(z0)
    only = {"omega": 0.0, "gamma": 1.0}
    for A in (Mask(torch.tensor([1.0, 0.0, 1.0])), Matrix(torch.tensor([[1.0, 0.5, 0.0]]).double())):
        m = sf.Measurement(A, A(x), 0.0)
        assert PSLD(**only).energy(m.to_model(turn), z0).item() == pytest.approx(0.0, abs=1e-12)
        lossy = Lossy(turn.W)
        want = 0.5 * float(z0.norm())
        assert PSLD(**only).energy(m.to_model(lossy), z0).item() == pytest.approx(want, rel=1e-9)
    mask = Mask(torch.tensor([1.0, 0.0, 1.0]))
    off = sf.Measurement(mask, mask(x) + torch.tensor([[0.3, 0.0, 0.4]]).double(), 0.0)
    assert PSLD(**only).energy(off.to_model(turn), z0).item() == pytest.approx(0.5)


def test_an_adjoint_from_automatic_differentiation_has_its_gradient(turn):
    """Reflected borders: A^T is not written out; the same operator as a matrix gives the same pull."""
    taps = torch.tensor([0.2, 0.5, 0.3]).double()
    A = Convolution(taps)
    eye = torch.eye(4).double()[:, None]
    whole = A(eye)[:, 0].T

    @dataclass(frozen=True, eq=False)
    class Flat(Codec):
        def encode(self, x):
            return 2 * x

        def decode(self, z):
            return z / 2

    z = sf.Noise(5).normal(torch.zeros(2, 1, 4).double()).requires_grad_()
    y = sf.Noise(6).normal(torch.zeros(2, 1, 4).double())
    solver = PSLD(omega=0.0, gamma=1.0)
    m = sf.Measurement(A, y, 0.0)
    (g,) = torch.autograd.grad(solver.energy(m.to_model(Flat()), z).sum(), z)
    r = y[:, 0] - z[:, 0] / 2 @ whole.T
    (want,) = torch.autograd.grad((2 * r @ whole).norm(dim=1).sum(), z)
    torch.testing.assert_close(g, want, atol=1e-12, rtol=0)


def test_an_affine_codec_leaves_the_space_of_pixels(world, measured):
    m, z = measured.to_model(Affine(0.5, 0.1)), sf.Noise(7).normal(torch.zeros(3, 3).double())
    got = PSLD(gamma=0.2).energy(m, z)
    torch.testing.assert_close(got, energy(measured.operator.A, m, z, 0.2), atol=1e-12, rtol=0)


def test_settings_and_batches(turned, turn, measured, alone):
    assert (PSLD().steps, PSLD().omega, PSLD().gamma, PSLD().eta) == (1000, 1.0, 0.1, 0.0)
    assert (PSLD.box().omega, PSLD.box().gamma) == (0.1, 0.01)
    assert PSLD(steps=10).times(Table.linear())[0] == 1.0
    alone(PSLD(steps=6, eta=0.5), turned.denoiser(LinearBeta()), measured.to_model(turn))
    for A in (Clip(), sf.Measurement(Clip(), measured.y, 0.0).to_model(turn).operator):
        with pytest.raises(TypeError, match="PSLD needs a Linear operator on data"):
            PSLD().check(A)
    PSLD().check(measured.operator)
    PSLD().check(measured.to_model(turn).operator)

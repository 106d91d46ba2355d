"""Distances of feature sets against closed forms, brute force and other codes."""

import itertools
import math

import pytest
import torch
from metric_peers import KEPT, inception, pictures
from public_codes import kept

from sfumato import Noise
from sfumato.metrics import (
    balls,
    density_coverage,
    frechet,
    frechet_normal,
    group_numbers,
    jackknife,
    kernel_distance,
    mmd,
    precision_recall,
)
from sfumato.nets.inception import Inception, tensorflow_bilinear


def points(seed, n, d, dtype=torch.float64):
    return Noise(seed).normal(torch.empty(n, d, dtype=dtype))


def drawn():
    """The sets that the other codes were given."""
    noise = Noise(5)
    u = 1.3 * noise.normal(torch.empty(60, 6, dtype=torch.float64))
    return u, noise.normal(torch.empty(50, 6, dtype=torch.float64)) + 0.8


# Frechet


@pytest.mark.parametrize(("n", "m", "d"), [(5, 7, 7), (5, 4, 30), (8, 7, 7), (7, 8, 7), (2, 2, 1)])
def test_frechet_of_few_items_is_that_of_their_covariances(n, m, d):
    a, b = points(1, n, d), 2.0 * points(2, m, d) + 0.3
    whole = frechet_normal(a.mean(0), torch.atleast_2d(torch.cov(a.T)), b.mean(0), torch.atleast_2d(torch.cov(b.T)))
    assert frechet(a, b) == pytest.approx(whole, rel=1e-6)
    assert frechet(a, a) == pytest.approx(0.0, abs=1e-9)


def test_frechet_of_two_pairs_is_the_gap_of_means_and_of_spreads():
    a = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])  # variance 2 along the first axis
    b = torch.tensor([[3.0, 4.0], [3.0, 4.0]])  # a point
    assert frechet(a, b) == pytest.approx(25.0 + 2.0)
    assert frechet(a, 3.0 * a) == pytest.approx((3.0 - 1.0) ** 2 * 2.0)


def test_frechet_is_torch_fidelitys():
    assert frechet(*drawn()) == pytest.approx(float(kept(KEPT)["fid"]), rel=1e-9)


def test_the_jackknife_of_a_frechet_distance_is_its_spread():
    def distance(x, y):
        return torch.tensor([frechet(x, y)])

    found, errors = [], []
    for i in range(40):
        a, b = 1.3 * points(2 * i, 200, 8) + 0.3, points(2 * i + 1, 600, 8)
        found.append(frechet(a, b))
        errors.append(float(jackknife(distance, a, b, Noise(i))))
    ratio = torch.tensor(errors).square().mean().sqrt() / torch.tensor(found).std()
    assert float(ratio) == pytest.approx(1.0, abs=0.3)


# Kernel distance


def test_mmd_is_the_sum_over_pairs_of_different_items():
    a, b = points(1, 4, 3), points(2, 3, 3) + 0.5

    def k(x, y):
        return (sum(float(p * q) for p, q in zip(x, y)) / 3 + 1) ** 3

    within = [sum(k(x, y) for x, y in itertools.permutations(v, 2)) / (len(v) * (len(v) - 1)) for v in (a, b)]
    across = sum(k(x, y) for x in a for y in b) / 12
    assert mmd(a, b) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_mmd_of_points_by_hand():
    # One feature: k(1, 1) = 8, k(0, 0) = k(0, 1) = 1; of degree 1 it is the gap of the means squared: 2 + 1 - 2.
    ones, zeros = torch.ones(3, 1), torch.zeros(2, 1)
    assert mmd(ones, zeros) == pytest.approx(8 + 1 - 2)
    assert mmd(ones, zeros, degree=1) == pytest.approx(1.0)


def test_mmd_is_unbiased_and_falls_below_zero():
    values = torch.tensor([mmd(points(2 * i, 5, 2), points(2 * i + 1, 6, 2)) for i in range(600)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(600) and float(values.min()) < 0


def test_mmd_is_torch_fidelitys():
    u, v = drawn()
    assert mmd(u[:50], v) == pytest.approx(float(kept(KEPT)["kid"]), rel=1e-12)


def test_kernel_distance_is_the_mean_over_blocks_apart():
    a, b = points(1, 11, 2), points(2, 9, 2) + 1.0
    got = kernel_distance(a, b, noise=Noise(3), size=4)
    noise = Noise(3)
    first, second = noise.permutation(11), noise.permutation(9)
    values = [mmd(a[first[i : i + 4]], b[second[i : i + 4]]) for i in (0, 4)]
    assert got.blocks == 2 and got.value == pytest.approx(sum(values) / 2)
    assert got.error == pytest.approx(abs(values[0] - values[1]) / 2)  # std of two is the gap / sqrt 2
    one = kernel_distance(a, b, noise=Noise(3), size=1000)
    assert one.blocks == 1 and math.isnan(one.error)
    assert kernel_distance(a[:9], b, noise=Noise(3)).value == pytest.approx(mmd(a[:9], b))


def test_the_error_of_the_kernel_distance_is_its_spread():
    found = [
        kernel_distance(points(3 * i, 80, 2), points(3 * i + 1, 80, 2) + 0.5, noise=Noise(i), size=8)
        for i in range(200)
    ]
    spread = torch.tensor([each.value for each in found]).std()
    assert float(torch.tensor([each.error for each in found]).square().mean().sqrt() / spread) == pytest.approx(
        1.0, abs=0.2
    )


def test_a_block_has_two_items():
    with pytest.raises(ValueError, match="at least 2 items of each set, got 1"):
        kernel_distance(points(1, 3, 2), points(2, 3, 2), noise=Noise(0), size=1)


@pytest.mark.parametrize("metric", [frechet, mmd, precision_recall, density_coverage])
def test_sets_are_of_the_same_features(metric):
    for shape in ((3, 3), (1, 2), (3, 2, 1)):
        with pytest.raises(ValueError, match=r"features are \(n, d\) and \(m, d\), at least 2"):
            metric(torch.zeros(3, 2), torch.zeros(shape))
        with pytest.raises(ValueError, match=r"features are \(n, d\) and \(m, d\), at least 2"):
            metric(torch.zeros(shape), torch.zeros(3, 2))


# Precision, recall, density, coverage


def by_brute_force(samples, reference, k):
    def gap(x, y):
        return math.dist(x, y)

    a, b = samples.tolist(), reference.tolist()
    ball_a = [sorted(gap(x, y) for y in a)[k] for x in a]
    ball_b = [sorted(gap(x, y) for y in b)[k] for x in b]
    inside = [[gap(x, y) <= r for y, r in zip(b, ball_b)] for x in a]
    precision = sum(any(row) for row in inside) / len(a)
    recall = sum(any(gap(x, y) <= r for y, r in zip(a, ball_a)) for x in b) / len(b)
    density = sum(map(sum, inside)) / (k * len(a))
    coverage = sum(map(any, zip(*inside))) / len(b)
    return precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 6])
def test_balls_by_brute_force(k, monkeypatch):
    monkeypatch.setattr("sfumato.metrics.neighbours.ROWS", 5)  # so that there are chunks
    a, b = 1.2 * points(1, 13, 3) + 0.5, points(2, 11, 3)
    expected = by_brute_force(a, b, k)
    assert (*precision_recall(a, b, k=k), *density_coverage(a, b, k=k)) == pytest.approx(expected, abs=1e-12)


def test_balls_on_a_line_by_hand():
    b = torch.tensor(
        [[0.0], [1.0], [3.0], [10.0]]
    )  # first neighbours at 1, 1, 2, 7: balls [-1, 1] [0, 2] [1, 5] [3, 17]
    a = torch.tensor([[2.0], [20.0], [2.5]])  # 2 lies in two balls (one touches), 2.5 in one, 20 in none
    assert precision_recall(a, b, k=1).precision == pytest.approx(2 / 3)
    assert density_coverage(a, b, k=1) == pytest.approx((3 / 3, 2 / 4))
    # Balls of a: 0.5 around 2 and 2.5, 17.5 around 20: [1.5, 2.5], [2.5, 37.5], [2, 3] hold 3 and 10.
    assert precision_recall(a, b, k=1).recall == pytest.approx(2 / 4)


def test_the_ends():
    x = points(1, 20, 4)
    assert precision_recall(x, x) == (1.0, 1.0)
    assert density_coverage(x, x).coverage == 1.0
    assert precision_recall(x, x + 100.0) == (0.0, 0.0) and density_coverage(x, x + 100.0) == (0.0, 0.0)
    # Samples that are all one item: as good as data, and cover one ball's worth of them.
    same = x[:1].expand(20, 4)
    assert precision_recall(same, x).precision == 1.0 and precision_recall(same, x).recall == 1 / 20


def test_coverage_of_equal_laws_is_its_mean():
    n, m, k = 30, 20, 5
    expected = 1.0 - math.prod((m - i) / (m + n - i) for i in range(1, k + 1))
    found = [density_coverage(points(2 * i, n, 2), points(2 * i + 1, m, 2), k=k) for i in range(300)]
    for values, mean in (([f.coverage for f in found], expected), ([f.density for f in found], 1.0)):
        values = torch.tensor(values)
        assert abs(float(values.mean()) - mean) < 4 * float(values.std()) / math.sqrt(len(values))


def test_balls_are_those_of_public_codes():
    u, v = drawn()
    other = kept(KEPT)
    expected = [float(other[name]) for name in ("precision", "recall", "density", "coverage")]
    assert 0.1 < expected[0] < 1 and 0.1 < expected[1] < 1
    assert (*precision_recall(u, v), *density_coverage(u, v)) == pytest.approx(expected, abs=1e-6)


def test_without_a_group_is_the_figure_of_the_others(monkeypatch):
    monkeypatch.setattr("sfumato.metrics.neighbours.ROWS", 7)
    a, b = 1.2 * points(1, 23, 3) + 0.5, points(2, 17, 3)
    of_a, of_b = group_numbers(23, 17, 3, Noise(4))
    got = balls(a, b, ks=(2, 4), groups=(of_a, of_b))
    assert got.figures.tolist() == pytest.approx([*precision_recall(a, b, k=2), *density_coverage(a, b, k=4)])
    for g in range(3):
        x, y = a[of_a != g], b[of_b != g]
        expected = [*by_brute_force(x, y, 2)[:2], *by_brute_force(x, y, 4)[2:]]
        assert got.left_out[g].tolist() == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="a group leaves fewer than 5 items"):
        balls(points(1, 6, 2), points(2, 6, 2), ks=(1, 4), groups=(torch.arange(6) // 3, torch.arange(6) // 3))


def test_points_far_from_the_origin_and_copies():
    x = points(1, 40, 5).float().double()
    assert density_coverage(x + 1e4, x + 1e4, k=4).density == pytest.approx(5 / 4)  # each ball: its centre and 4 more
    assert precision_recall(x + 1e4, x + 1e4 + 50.0) == (0.0, 0.0)
    copies = x[:4].repeat(10, 1) + 1e4  # nine copies of each: balls are points
    assert density_coverage(copies, copies, k=5) == (10 / 5, 1.0)
    assert precision_recall(copies, copies + 1e-3) == (0.0, 0.0)


@pytest.mark.parametrize("metric", [precision_recall, density_coverage])
def test_a_neighbour_that_is_not_there(metric):
    for k, n, m in ((0, 4, 4), (4, 4, 5), (4, 5, 4)):
        with pytest.raises(ValueError, match=rf"more than k items of each set, got k = \({k}, {k}\) for {n} and {m}"):
            metric(points(1, n, 2), points(2, m, 2), k=k)
    metric(points(1, 5, 2), points(2, 5, 2), k=4)


# Inception


def test_inception_and_its_fid_are_torch_fidelitys():
    other, net = kept(KEPT), Inception.load(inception())
    with torch.no_grad():
        a, b = net(pictures(1, 4, 23, 40)), net(pictures(2, 3, 311, 90))
    assert a.shape == (4, 2048) and float(a.std(0).mean()) > 0.05
    for ours, theirs in ((a, other["inception_a"]), (b, other["inception_b"])):
        assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().mean())
    assert frechet(a, b) == pytest.approx(float(other["inception_fid"]), rel=1e-4)


def test_tensorflows_enlargement_by_hand():
    x = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    row = [0.0, 2.0, 4.0, 4.0]  # at 0, 1/2, 1, 3/2, the last held at the edge
    expected = torch.tensor([[r + s for r in row] for s in (0.0, 4.0, 8.0, 8.0)])
    assert torch.equal(tensorflow_bilinear(x, 4)[0, 0], expected)
    assert torch.equal(
        tensorflow_bilinear(torch.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0, 0], torch.tensor([0.0, 2.0])
    )


def test_other_weights_are_no_inception():
    state = inception()
    for change in ({"fc.weight": torch.zeros(1000, 2048)}, {"Mixed_7c.branch_pool.conv.weight": torch.zeros(1)}):
        with pytest.raises(ValueError, match=r"no weights of the Inception of FID.*missing or of another shape"):
            Inception.load(state | change)
    del state["Conv2d_1a_3x3.bn.weight"]
    with pytest.raises(ValueError, match=r"Conv2d_1a_3x3\.bn\.weight missing"):
        Inception.load(state)

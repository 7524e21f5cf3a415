"""Minus the divergence of answers, against scipy's."""

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from scipy.special import rel_entr, softmax
from torch import nn

from labkit.divergence import MinusDivergence
from labkit.vla.policy import Policy


def nets():
    torch.manual_seed(0)
    return nn.Linear(5, 4), nn.Linear(5, 4), torch.randn(7, 5)


def test_it_is_the_mean_kullback_leibler_divergence():
    one, two, x = nets()
    p, q = (softmax(net(x).detach().double().numpy(), axis=1) for net in (one, two))
    wanted = rel_entr(p, q).sum(1).mean()
    assert MinusDivergence(one, x)(two) == pytest.approx(-wanted, abs=1e-6)


def test_batches_of_different_sizes_count_by_their_samples():
    one, two, x = nets()
    whole = MinusDivergence(one, x)(two)
    assert MinusDivergence(one, [x[:1], x[1:]])(two) == pytest.approx(whole, abs=1e-7)


def test_the_same_model_loses_nothing():
    one, _, x = nets()
    assert MinusDivergence(one, x)(one) == pytest.approx(0, abs=1e-12)


def test_labels_in_the_batches_are_left_aside():
    one, two, x = nets()
    labelled = MinusDivergence(one, [(x, torch.zeros(7, dtype=torch.long))])
    assert labelled(two) == MinusDivergence(one, x)(two)


def test_a_model_of_two_inputs_and_its_mode_is_left_as_it_was():
    torch.manual_seed(0)
    policy = Policy(width=8, language=8, reading=1, films=1).train()
    batch = (torch.rand(3, 3, 64, 64), torch.ones(3, 10, dtype=torch.long))
    assert abs(MinusDivergence(policy, [batch])(policy)) < 1e-12
    assert policy.training


def test_it_can_be_sent_to_another_process():
    one, two, x = nets()
    quality = MinusDivergence(one, x)
    (there,) = Parallel(n_jobs=2)([delayed(quality)(two)])
    assert there == quality(two)


def test_no_batches_and_answers_that_are_not_numbers_are_refused():
    one, _, x = nets()
    with pytest.raises(ValueError, match="no batches"):
        MinusDivergence(one, [])
    with pytest.raises(ValueError, match="NaN"):
        MinusDivergence(one, np.nan * x)

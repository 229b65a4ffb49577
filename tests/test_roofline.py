"""The limit that training speed is compared with: counted operations, at the rates that are given."""

import math

import torch
from benchmarks.roofline import Limits, measured_limits, step_limit
from torch import nn

NO_BYTES = Limits({torch.float32: 1.0, torch.bfloat16: 2.0}, math.inf)
NO_FLOPS = Limits({torch.float32: math.inf, torch.bfloat16: math.inf}, 1.0)


def test_a_product_takes_its_flops_at_the_rate_of_its_type():
    for floats, rate in ((torch.float32, 1.0), (torch.bfloat16, 2.0)):
        one, other = torch.zeros(8, 16, dtype=floats), torch.zeros(16, 4, dtype=floats)

        assert step_limit(lambda a=one, b=other: a @ b, NO_BYTES) == 2 * 8 * 16 * 4 / rate


def test_what_is_read_and_written_counts_where_it_takes_longer():
    one, other = torch.zeros(8, 16), torch.zeros(16, 4)

    assert step_limit(lambda: one @ other, NO_FLOPS) == 4 * (8 * 16 + 16 * 4 + 8 * 4)


def test_backward_through_a_convolution_counts_twice_its_forward():
    layer = nn.Conv2d(3, 5, 3, bias=False)
    images = torch.zeros(2, 3, 10, 10, requires_grad=True)
    forward = 2 * 2 * 5 * 8 * 8 * 3 * 9

    assert step_limit(lambda: layer(images), NO_BYTES) == forward
    assert step_limit(lambda: layer(images).sum().backward(), NO_BYTES) == 3 * forward


def test_conversions_between_floats_are_no_work():
    numbers = torch.zeros(100)

    assert step_limit(lambda: numbers.bfloat16().float(), NO_FLOPS) == 0


def test_the_limits_of_this_machine_are_numbers():
    limits = measured_limits()

    assert all(rate > 0 for rate in limits.rate.values())
    assert limits.bandwidth > 0

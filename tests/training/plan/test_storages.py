"""What lives, what is mapped, what a heap keeps."""

from __future__ import annotations

import torch

from m2m.training.plan.storages import MAPPED, Event, Storages, heap_peak, live_peak

KB = 1024


def test_storages_come_once_and_go() -> None:
    """Guards against views and in-place results that count twice, and against storages that never end."""
    storages = Storages()
    with storages:
        a = torch.zeros(256)  # 1 KB
        b = a.view(16, 16).add_(1)
        c = a * 2
        del a, b
        d = c + c
    assert storages.events == [Event(KB), Event(KB), Event(-KB), Event(KB)]
    del c, d
    assert sum(event.size for event in storages.events) == 0


def test_a_gradient_ends_as_one() -> None:
    """Guards against gradients that are counted among activations too."""
    storages = Storages()
    weight = torch.zeros(256, requires_grad=True)
    weight.register_post_accumulate_grad_hook(lambda w: storages.settle(w.grad))
    with storages:
        (weight * 2).sum().backward()
    weight.grad = None
    assert [event for event in storages.events if event.gradient] == [Event(-KB, gradient=True)]
    assert sum(event.size for event in storages.events) == 0


def test_the_live_peak_is_that_of_a_moment() -> None:
    """Guards against sums of what never lived together."""
    assert live_peak([4 * KB, -4 * KB, KB, 2 * KB, -KB]) == 4 * KB
    assert live_peak([1, 1]) == 2 * 512


def test_a_heap_keeps_room_for_every_size() -> None:
    """Guards against a plan for a CPU that forgets what malloc does not give back: up to twice what lives."""
    assert heap_peak([4 * KB, -4 * KB, KB, KB, -KB, -KB, 4 * KB]) == 6 * KB
    assert heap_peak([KB, 2 * KB, -KB, -2 * KB, KB], passing=4) == 3 * KB
    large = [MAPPED, -MAPPED, 2 * MAPPED, -2 * MAPPED]
    assert heap_peak([*large, KB]) == 2 * MAPPED + KB

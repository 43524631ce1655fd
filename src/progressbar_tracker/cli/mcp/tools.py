"""The tools: their arguments, and what each of them does with the same exchanges as the commands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar, cast

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from progressbar_tracker._errors import ItemNotFoundError
from progressbar_tracker._http.exchanges import ServerProtocol, request_history, request_statistics, request_tail
from progressbar_tracker._models import MAX_GROUP_LENGTH, MAX_ID_LENGTH, check_id
from progressbar_tracker.cli.history import END_STATUSES, parse_time
from progressbar_tracker.cli.lookups import request_item_or_last_run, request_run_or_item
from progressbar_tracker.cli.run_history import build_item_url, build_run_url
from progressbar_tracker.cli.table import STATUS_FILTERS, find_clock_offset, has_status
from progressbar_tracker.cli.wait import UnknownEndError

from .results import (
    MAX_OUTPUT_LENGTH,
    ItemDetails,
    ItemList,
    ItemView,
    RunDetails,
    RunList,
    StopResult,
    WaitResult,
    clean_program_text,
    describe_item,
    describe_state,
    describe_view,
    restore_id,
    view_item,
    view_statistics,
)
from .waiting import ItemWait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from .connection import Session

MAX_PAGE_SIZE: Final = 100
DEFAULT_PAGE_SIZE: Final = 20
MAX_WAIT_SECONDS: Final = 3600
MAX_ESCAPED_ID_LENGTH: Final = 10 * MAX_ID_LENGTH
DEFAULT_WAIT_SECONDS: Final = 50
"""Less than the minute after which many clients end a call."""

A = TypeVar("A")


def _read_id(text: str) -> str:
    return check_id(restore_id(text))


ItemId = Annotated[
    str,
    Field(min_length=1, max_length=MAX_ESCAPED_ID_LENGTH, description="The id of an item."),
    AfterValidator(_read_id),
]
RunId = Annotated[
    str,
    Field(min_length=1, max_length=MAX_ESCAPED_ID_LENGTH, description="The run_id of an item or a run."),
    AfterValidator(_read_id),
]
Group = Annotated[str | None, Field(max_length=MAX_GROUP_LENGTH, description="Only this group.")]
PageSize = Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE, description="The size of a page.")]
TimeText = str | None

_CLOSED_CONFIG: Final[ConfigDict] = {"extra": "forbid"}
"""A mistyped name of an argument is an error."""


class ToolResult(NamedTuple):
    """The result of a tool.

    Attributes:
        content: The result, which obeys the schema of the tool.
        text: The same in a few lines.
    """

    content: Mapping[str, object]
    text: str


class ToolCall(NamedTuple):
    """The environment of a call.

    Attributes:
        session: The server.
        report: Sends a progress notification: seconds so far, seconds at most, and a message.
    """

    session: Session
    report: Callable[[float, float, str], Awaitable[None]]


class Tool(Generic[A]):
    """A tool.

    Args:
        name: The name in the protocol.
        title: The name for a person.
        description: Its effect, for the agent.
        arguments: The class of its arguments.
        result: The shape of its result.
        perform: Performs a call.
        is_read_only: The tool changes nothing.
    """

    def __init__(
        self,
        name: str,
        title: str,
        description: str,
        arguments: type[A],
        result: type,
        perform: Callable[[ToolCall, A], Awaitable[ToolResult]],
        *,
        is_read_only: bool = True,
    ) -> None:
        self.name: Final = name
        self.title: Final = title
        self.description: Final = description
        self.is_read_only: Final = is_read_only
        self._arguments: Final = TypeAdapter(arguments)
        self._result = result
        self._perform = perform

    def bind(self, arguments: Mapping[str, object]) -> Callable[[ToolCall], Awaitable[ToolResult]]:
        """Return the call with validated arguments.

        Raises:
            ValidationError: An argument is unknown, missing, of the wrong type or out of range.
        """
        valid_arguments = self._arguments.validate_python(arguments)
        return lambda call: self._perform(call, valid_arguments)

    def input_schema(self) -> dict[str, object]:
        """Return the JSON schema of the arguments."""
        schema = cast("dict[str, object]", _drop_titles(self._arguments.json_schema()))
        return {name: value for name, value in schema.items() if name != "description"}

    def output_schema(self) -> dict[str, object]:
        """Return the JSON schema of the result."""
        return cast("dict[str, object]", _drop_titles(TypeAdapter(self._result).json_schema()))


def _drop_titles(schema: object) -> object:
    """Return a schema without the titles that pydantic makes of each name: an agent reads all of it."""
    if isinstance(schema, dict):
        return {
            name: _drop_titles(value) for name, value in schema.items() if name != "title" or not isinstance(value, str)
        }
    return [_drop_titles(entry) for entry in schema] if isinstance(schema, list) else schema


# ---------------------------------------------------------------- list_items


@dataclass(frozen=True)
class ListArguments:
    """The arguments of ``list_items``."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED_CONFIG

    status: Annotated[
        list[Literal[STATUS_FILTERS]] | None,  # type: ignore[valid-type]  # pydantic reads the values of the tuple
        Field(description="Only items to which one of these applies."),
    ] = None
    group: Group = None
    limit: PageSize = DEFAULT_PAGE_SIZE
    offset: Annotated[int, Field(ge=0, description="Items to skip: next_offset of the page before.")] = 0


async def list_items(call: ToolCall, arguments: ListArguments) -> ToolResult:
    """List the items, highest weight first."""
    items = await call.session.run(ServerProtocol(auto_detect=False).get_all())
    now = time.time() + find_clock_offset(items, time.time())
    if arguments.status:
        items = [item for item in items if any(has_status(item, status) for status in arguments.status)]
    if arguments.group is not None:
        items = [item for item in items if item.get("group") == arguments.group]
    end = arguments.offset + arguments.limit
    page = items[arguments.offset : end]
    views = [view_item(item, now, is_brief=True) for item in page]
    result = ItemList(items=views, total_count=len(items))
    heading = (
        f"{len(items)} items match." if arguments.status or arguments.group is not None else f"{len(items)} items."
    )
    if end < len(items):
        result["next_offset"] = end
        heading += f" The next page begins at offset {end}."
    return ToolResult(cast("Mapping[str, object]", result), _format_lines(heading, page, views, now))


def _format_lines(heading: str, items: Iterable[Mapping[str, object]], views: Iterable[ItemView], now: float) -> str:
    lines = (describe_view(describe_item(item, now), view) for item, view in zip(items, views, strict=True))
    return "\n".join((heading, *lines))


# ---------------------------------------------------------------- get_item and get_run


@dataclass(frozen=True)
class ItemArguments:
    """The arguments of ``get_item``."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED_CONFIG

    id: ItemId


async def get_item(call: ToolCall, arguments: ItemArguments) -> ToolResult:
    """Return an item, or its last run."""
    item, is_listed = await call.session.run(request_item_or_last_run(arguments.id))
    statistics = await call.session.run(request_statistics(arguments.id))
    now = time.time() + (find_clock_offset([item], time.time()) if is_listed else 0.0)
    view, usual = view_item(item, now), view_statistics(statistics)
    url = call.session.config.url
    result = ItemDetails(item=view, is_listed=is_listed, page_url=build_item_url(url, arguments.id))
    text = describe_view(describe_item(item, now), view)
    if usual is not None:
        result["usual_runs"] = usual
    if not is_listed:
        text += "\nThe item has left the list: this is its last run."
    return ToolResult(cast("Mapping[str, object]", result), text)


@dataclass(frozen=True)
class RunArguments:
    """The arguments of ``get_run``."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED_CONFIG

    id: ItemId
    run_id: RunId


async def get_run(call: ToolCall, arguments: RunArguments) -> ToolResult:
    """Return a run of an item."""
    run = await call.session.run(request_run_or_item(arguments.id, arguments.run_id))
    now = time.time()
    view = view_item(run, now)
    url = build_run_url(call.session.config.url, arguments.id, arguments.run_id)
    if output := await call.session.run(request_tail(arguments.id, arguments.run_id)):
        # Its end is the most important part.
        view["untrusted_text"]["output"] = clean_program_text(output[-MAX_OUTPUT_LENGTH:], MAX_OUTPUT_LENGTH)
    result = RunDetails(run=view, page_url=url)
    return ToolResult(cast("Mapping[str, object]", result), describe_view(describe_item(run, now), view))


# ---------------------------------------------------------------- history


@dataclass(frozen=True)
class HistoryArguments:
    """The arguments of ``history``."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED_CONFIG

    id: Annotated[ItemId | None, Field(description="Only runs of this item.")] = None
    status: Annotated[
        Literal[END_STATUSES] | None,  # type: ignore[valid-type]  # as above
        Field(description="Only runs with this end."),
    ] = None
    group: Group = None
    text: Annotated[str | None, Field(description="Only runs with this text in their id or title.")] = None
    since: Annotated[
        TimeText, Field(description="Only runs that ended then or later: an age such as 2h or 7d, or an instant.")
    ] = None
    until: Annotated[TimeText, Field(description="Only runs that started then or earlier, in the same form.")] = None
    inner: Annotated[
        bool, Field(description="Also inner bars that have not failed; always included if an id is given.")
    ] = False
    limit: PageSize = DEFAULT_PAGE_SIZE


async def history(call: ToolCall, arguments: HistoryArguments) -> ToolResult:
    """List the runs that have left the list."""
    given = {
        "id": arguments.id,
        "status": arguments.status,
        "group": arguments.group,
        "q": arguments.text,
        "since": _read_time("since", arguments.since),
        "until": _read_time("until", arguments.until),
        "inner": None if arguments.inner or arguments.id is not None else "false",
    }
    criteria = {name: str(value) for name, value in given.items() if value is not None}
    runs, has_more = await call.session.run(request_history(criteria, arguments.limit))
    now = time.time()
    views = [view_item(run, now, is_brief=True) for run in runs]
    result = RunList(runs=views, has_more=has_more)
    heading = f"{len(runs)} runs{', and there are older ones' if has_more else ''}."
    return ToolResult(cast("Mapping[str, object]", result), _format_lines(heading, runs, views, now))


def _read_time(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return parse_time(text, is_end=name == "until").isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{name}: {error}") from None


# ---------------------------------------------------------------- wait_for


@dataclass(frozen=True)
class WaitArguments:
    """The arguments of ``wait_for``."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED_CONFIG

    id: ItemId
    timeout_seconds: Annotated[
        float, Field(gt=0, le=MAX_WAIT_SECONDS, description="The longest wait; then the outcome is timeout.")
    ] = DEFAULT_WAIT_SECONDS
    ignore_stuck: Annotated[bool, Field(description="Wait on while the run is stuck or stalled.")] = False
    appear: Annotated[bool, Field(description="Also wait for an item that does not exist yet.")] = False


async def wait_for(call: ToolCall, arguments: WaitArguments) -> ToolResult:
    """Wait for the end of a run."""

    async def report(wait: ItemWait) -> None:
        await call.report(wait.waited_seconds, arguments.timeout_seconds, _describe_wait(wait))

    wait = ItemWait(
        call.session,
        arguments.id,
        seconds=arguments.timeout_seconds,
        appear=arguments.appear,
        ignore_stuck=arguments.ignore_stuck,
        report=report,
    )
    try:
        outcome, item = await wait.run()
    except UnknownEndError as error:
        if error.was_running:
            raise
        raise ItemNotFoundError(f"{error} (appear=true waits for it)", status_code=404, code="item-not-found") from None
    text = f"The wait ended after {wait.waited_seconds:.1f} s: {outcome}."
    result: dict[str, object] = {"outcome": outcome, "waited_seconds": round(wait.waited_seconds, 3)}
    if item is not None:
        now = time.time()
        result["item"] = view = view_item(item, now)
        text += "\n" + describe_view(describe_item(item, now), view)
    return ToolResult(result, text)


def _describe_wait(wait: ItemWait) -> str:
    """Return the message of a progress notification, without a text of the program."""
    state = "the item has not appeared" if wait.item is None else describe_state(wait.item, time.time())
    return state if wait.is_connected else f"the connection to the server was lost, before that: {state}"


# ---------------------------------------------------------------- stop


@dataclass(frozen=True)
class StopArguments:
    """The arguments of ``stop``."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED_CONFIG

    id: ItemId
    run_id: Annotated[
        RunId | None, Field(description="Refuse the request if the item belongs to another run by now.")
    ] = None


async def stop(call: ToolCall, arguments: StopArguments) -> ToolResult:
    """Request that a program stops its run."""
    item = await call.session.run(ServerProtocol(auto_detect=False).request_stop(arguments.id, arguments.run_id))
    now = time.time()
    view = view_item(item, now)
    text = f"The stop is requested. Call wait_for to see the end.\n{describe_view(describe_item(item, now), view)}"
    return ToolResult(cast("Mapping[str, object]", StopResult(item=view)), text)


AGENT_TOOLS: Final = (
    Tool(
        "list_items",
        "List items",
        "List the tracked programs (items): how far each is, when it will be done, and whether it is late, stuck or "
        "failed. Ended items stay listed for a while; older runs are in history.",
        ListArguments,
        ItemList,
        list_items,
    ),
    Tool(
        "get_item",
        "Get an item",
        "Return one item with all its texts, and how its runs usually go. If it has left the list: its last run.",
        ItemArguments,
        ItemDetails,
        get_item,
    ),
    Tool(
        "get_run",
        "Get a run",
        "Return one run of an item, the current one or a former one, with all its texts. Output needs a permission.",
        RunArguments,
        RunDetails,
        get_run,
    ),
    Tool(
        "history",
        "List former runs",
        "List the runs that have left the list, newest first, of one item or of all.",
        HistoryArguments,
        RunList,
        history,
    ),
    Tool(
        "wait_for",
        "Wait for an item",
        "Wait until the run of an item ends, fails, or is stuck or stalled, but at most timeout_seconds. If the item "
        "has ended already, return at once. After a timeout, call again to wait on.",
        WaitArguments,
        WaitResult,
        wait_for,
    ),
    Tool(
        "stop",
        "Stop a run",
        "Request that a program stops its run. Only runs with is_stoppable accept it, and only from a key with write "
        "permission. The program ends its loop before the next item. Use it only if the user has asked for it.",
        StopArguments,
        StopResult,
        stop,
        is_read_only=False,
    ),
)

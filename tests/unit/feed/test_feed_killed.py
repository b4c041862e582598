"""The feed killed at any instruction of a turn: nobody takes a torn thing for a whole one, and the next feed makes all anew."""

import numpy as np
import pytest

from hftd.core.jit import INTERPRETED
from hftd.errors import HftdError
from hftd.feed import build, view
from hftd.feed.build import clear_all
from hftd.feed.memory import book_dtype
from hftd.feed.setup import FeedAgent
from hftd.msg.enums import BookState, EventKind, Reason
from hftd.msg.records import FLAG_END_OF_PACKET, FLAG_SELL, INSTRUMENT_ANNOUNCED, market_event_dtype
from hftd.shm import ring
from tests.support import itch_messages as itch
from tests.support.feed_books import Feed
from tests.support.live_feed import Live, state_of
from tests.support.stepped import bytes_of, put_back, states

pytestmark = pytest.mark.skipif(INTERPRETED, reason="machine code only")

AAPL, MSFT, PX = 5, 6, 1_000_000
LIVE, EMPTY = int(BookState.LIVE), int(BookState.EMPTY)
OF_QUOTE = ("bid_px", "bid_qty", "ask_px", "ask_qty", "last_px", "last_qty", "volume", "state", "trading", "last_match")
PRINTS = ("last_px", "last_qty", "volume", "last_match")
COUNTED = ("volume", "hidden_volume", "orders_live", "levels_live", "unknown_refs", "duplicate_refs", "overfills", "crossed")


def bid(ref: int, below: int, locate: int = AAPL) -> bytes:
    """An order to buy, so many ticks below 100.00."""
    return itch.add(locate, ref, "B", 100, PX - 100 * below, "AAPL" if locate == AAPL else "MSFT")


def ask(ref: int, above: int, locate: int = AAPL) -> bytes:
    """An order to sell, so many ticks above 100.00."""
    return itch.add(locate, ref, "S", 100, PX + 100 * above, "AAPL" if locate == AAPL else "MSFT")


MORNING = [
    itch.system("Q"), itch.directory(AAPL, "AAPL"), itch.directory(MSFT, "MSFT"), itch.action(AAPL, "T"),
    itch.action(MSFT, "T", symbol="MSFT"), bid(1, 3), bid(2, 2), bid(3, 2), ask(4, 2), ask(5, 3), bid(6, 1, MSFT), ask(7, 1, MSFT),
    itch.executed(AAPL, 2, 40, match=1), itch.trade(AAPL, 70, PX, match=2),
]  # fmt: skip

PACKETS = {
    "an add that opens a level": [bid(50, 1)],
    "a delete that closes the best level": [itch.delete(AAPL, 4)],
    "an execution, and one at another price": [itch.executed(AAPL, 2, 60, match=3), itch.executed_at(AAPL, 3, 30, PX, match=4)],
    "a replacement at the top": [itch.replace(AAPL, 3, 51, 200, PX - 100)],
    "a halt and a print": [itch.action(AAPL, "H", "T1"), itch.trade(AAPL, 50, PX, match=5)],
    "an instrument that is new": [itch.directory(7, "NEW")],
    "two instruments, one with more to come": [bid(50, 1), ask(51, 2, MSFT), itch.delete(AAPL, 50)],
    "a side that grows": [bid(50, 30)],
}  # fmt: skip
BEFORE = {"a side that grows": [bid(20 + at, 4 + at) for at in range(14)]}


class Desk:
    """A live feed, what is to be known after each message, and a gating consumer that has not read yet."""

    def __init__(self, case: str):
        self.packet = PACKETS.get(case, [])
        self.live = Live(levels_max=1024, orders_max=1024, md=1024, rows=4)
        self.right, self.known, self.seq = Feed(instruments=4, levels=1024), [], 0
        self.live.consumer(0)
        memory = self.memory = self.live.memory
        self.watched = bytes_of(memory["market"], "instruments", "quotes", "statuses", "session", "counters")
        self.watched += bytes_of(memory["books"], "books", "levels", "slots") + bytes_of(memory["ring.md"], "control", "slots")
        self.rows = {name: part.view(np.ndarray) for name, part in self._parts()}
        self.send(*MORNING, *BEFORE.get(case, []))
        self.live.until(lambda: self.live.expected() == self.seq + 1)

    def _parts(self):
        for name in ("quotes", "statuses", "instruments", "session"):
            yield name, np.asarray(self.memory["market"][name])
        for name in ("books", "levels", "slots"):
            yield name, np.asarray(self.memory["books"][name])

    def send(self, *messages: bytes) -> None:
        """Send a packet; note what is to be known after each of its messages."""
        self.live.send(itch.packet(self.live.session, self.seq + 1, *messages))
        self.live.messages += messages
        for message in messages:
            self.right.apply(message)
            self.known.append(whole({name: table.rows for name, table in self.right.build.tables.items()}))
        self.seq += len(messages)

    def die(self) -> list:
        """Return images of what a turn that takes the packet at hand leaves behind, killed after any of its stores."""
        agent = self.live.agent
        return states(agent.kernel(), (agent.handle, agent.mark, agent.waiting, 1), self.watched)

    def start(self) -> None:
        """A new feed over what is there."""
        self.live.agent.close()
        self.live.agent = FeedAgent(self.live.config, self.memory)
        self.live.agent.prepare(True)

    def change_over(self) -> None:
        """The feed that is there takes another session."""
        agent = self.live.agent
        agent.handle["next_a"], agent.handle["next_b"] = agent.handle["session_a"], agent.handle["session_b"]
        agent.on_reason(int(Reason.SESSION_END))

    def recover(self) -> None:
        """The venue is still there: its heartbeat tells what is missing, its server sends it again."""
        self.live.control(self.seq + 1)
        self.live.until(lambda: self.live.expected() == self.seq + 1 and self.live.ready(), step=self.live.answer)

    def events(self) -> np.ndarray:
        """Return every event a consumer sees that polls slots."""
        md = self.memory["ring.md"]
        return np.asarray(md["slots"]).view(np.ndarray).view(market_event_dtype)[: ring.written_up_to(md)].copy()


def whole(rows: dict) -> list[dict]:
    """Return what is known of each instrument; None for what a reader has to leave alone."""
    found = []
    for at in range(3):
        try:
            levels = view.read_sides(rows["books"], rows["levels"], rows["slots"], at, 50)
        except HftdError:
            levels = None
        cells = {"quote": (rows["quotes"][at], OF_QUOTE), "status": (rows["statuses"][at], rows["statuses"].dtype.names[1:])}
        found.append({"levels": levels} | {
            name: {field: int(cell[field]) for field in fields} if int(cell["version"]) % 2 == 0 else None
            for name, (cell, fields) in cells.items()
        })  # fmt: skip
    return found


def read_up(events: np.ndarray, known: list, first: int) -> list:
    """Make books of events as a strategy does; whenever it would be shown one, it must be as after some whole packet.

    known: what is right after each message; first: the last one before the packet. Returns each instrument's levels and state.
    """
    sides: list = [({}, {}) for _ in range(4)]
    standing = [EMPTY] * 4
    for event in events:
        at, kind, state = int(event["instrument"]), int(event["kind"]), state_of(event)
        if kind == EventKind.LEVEL:
            side = sides[at][int(event["flags"]) & FLAG_SELL]
            side[int(event["px"])] = [int(event["px"]), int(event["qty"]), int(event["orders"])]
            if event["qty"] == 0:
                del side[int(event["px"])]
        elif kind == EventKind.CLEAR:
            sides[at] = ({}, {})
        elif kind == EventKind.BOOK_STATE:
            state = int(event["qty"])
        standing[at] = state
        if event["flags"] & FLAG_END_OF_PACKET and state == LIVE and int(event["wire_seq"]) > first:
            assert best_first(sides[at]) == known[-1][at]["levels"], "half a packet was shown as a whole one"
    return [(best_first(sides[at]), standing[at]) for at in range(3)]


def best_first(sides) -> tuple:
    """Return levels as `view.read_sides` does."""
    return sorted(sides[0].values(), reverse=True), sorted(sides[1].values())


def torn(desk: Desk, first: int) -> list[str]:
    """Return what a reader takes for whole and is none of the states that messages from number `first` on lead to."""
    found = []
    for at, now in enumerate(whole(desk.rows)):
        for part, value in now.items():
            if value is not None and value not in [one[at][part] for one in desk.known[first - 1 :]]:
                found.append(f"{part} of {at}: {value}")
        book, quote, status = (desk.rows[name][at] for name in ("books", "quotes", "statuses"))
        if now["levels"] is not None and int(book["wire_seq"]) > 0:  # who copies a book has prints and status with it
            right = desk.known[int(book["wire_seq"]) - 1][at]
            copy = {"levels": now["levels"], "prints": [int(quote[name]) for name in PRINTS],
                    "status": {name: int(status[name]) for name in right["status"]}}  # fmt: skip
            if copy != {"levels": right["levels"], "prints": [right["quote"][name] for name in PRINTS], "status": right["status"]}:
                found.append(f"copy of {at}: {copy}")
        facts = desk.rows["instruments"][at]
        if facts["flags"] & INSTRUMENT_ANNOUNCED and not (facts["symbol"] and facts["tick"]):
            found.append(f"{at} is announced and has no symbol or tick")
    return found


def begun(desk: Desk, told: np.ndarray, symbols: list[int]) -> list[str]:
    """Return what is wrong after a new feed has started and heard nothing yet."""
    found, rows = [], desk.rows
    for name in ("books", "quotes", "statuses", "session"):
        if np.any(rows[name]["version"] & 1):
            found.append(f"{name}: left open")
    if (rows["quotes"]["state"] != EMPTY).any() or rows["quotes"]["trading"].any() or (rows["books"]["state"] != EMPTY).any():
        found.append("may be traded on")
    desk.live.agent.cold(0)
    if desk.live.ready():
        found.append("says that it is ready")
    if rows["books"]["sides"]["count"].any() or rows["books"]["wire_seq"].any():
        found.append("books are not empty, or stand as of a message of before")
    if rows["instruments"]["flags"].any() or rows["instruments"]["symbol"].tolist() != symbols:
        found.append("instruments")
    events = desk.events()
    if events[: len(told)].tobytes() != told.tobytes() or len(events) != int(desk.memory["ring.md"]["control"][0]["tail"]):
        found.append("events were lost, or not published")
    if events[len(told) :][["kind", "instrument"]].tolist() != [(int(EventKind.CLEAR), at) for at in range(4)]:
        found.append("consumers were not told")
    return found


def ended(desk: Desk, first: int) -> list[str]:
    """Return what differs from a feed that never died, after the venue has told all again."""
    found = []
    now, right = whole(desk.rows), desk.known[-1]
    found += [f"{part} of {at}: {now[at][part]}" for at in range(3) for part in right[at] if now[at][part] != right[at][part]]
    ours = Feed.__new__(Feed)
    ours.build = desk.live.agent.build
    found += [f"orders of {at}" for at in range(3) if ours.sides(at) != desk.right.sides(at)]
    found += [f"{name}: {ours.counter(name)}" for name in COUNTED if ours.counter(name) != desk.right.counter(name)]
    if int(desk.rows["session"]["phase"][0]) != int(desk.right.build.tables["session"].rows["phase"][0]):
        found.append("session")
    for at, (levels, state) in enumerate(read_up(desk.events(), desk.known, first)):
        if levels != right[at]["levels"] or state != right[at]["quote"]["state"]:
            found.append(f"a consumer's book of {at}: {levels} {state}")
    consumer = desk.memory["ring.md"]["control"][0]["consumers"][0]
    if int(consumer["state"]) != ring.GATING or int(consumer["head"]) != 0:
        found.append("the consumer lost its place")
    return found


@pytest.fixture
def desk(request, monkeypatch):
    monkeypatch.setattr(view, "TRIES", 2)
    made = Desk(getattr(request, "param", ""))
    yield made
    made.live.close()


@pytest.mark.parametrize("desk", list(PACKETS), indirect=True)
def test_whatever_it_dies_at_is_whole_or_left_alone_and_made_anew(desk):
    """Between any two stores: what lies there, what a new feed makes of it at once, and has when the venue told it again."""
    first = desk.seq
    desk.send(*desk.packet)
    images = desk.die()
    assert len(images) > 20
    put_back(desk.watched, images[-1])
    assert torn(desk, desk.seq) == []
    events, wrong = desk.events(), {}
    for number, image in enumerate(images):
        put_back(desk.watched, image)
        told, symbols = desk.events(), desk.rows["instruments"]["symbol"].tolist()
        found = torn(desk, first)
        if told.tobytes() != events[: len(told)].tobytes():
            found.append("events that are none of the packet's")
        desk.start()
        found += begun(desk, told, symbols)
        if number % 3 == 0 or image is images[-1]:    # it begins alike from all of them, but for what lies in free rows
            desk.recover()
            found += ended(desk, first)
        if found:
            wrong[number] = found
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"


def test_it_may_die_again_while_it_recovers(desk):
    """Nothing may be traded on before all is there again, and the third feed makes it anew as the second would have."""
    desk.start()
    desk.live.control(desk.seq + 1)
    desk.live.until(lambda: desk.live.answer() > 0)
    images = desk.die()
    assert len(images) > 300
    for image in images[:-1]:
        put_back(desk.watched, image)
        for now, right in zip(whole(desk.rows), desk.known[-1], strict=True):
            assert now["quote"] is None or now["quote"]["state"] != LIVE or now == right
    wrong = {}
    for number in range(0, len(images), 12):
        put_back(desk.watched, images[number])
        told, symbols = desk.events(), desk.rows["instruments"]["symbol"].tolist()
        desk.start()
        found = begun(desk, told, symbols)
        desk.recover()
        if found + ended(desk, 0):
            wrong[number] = found + ended(desk, 0)
    assert not wrong, f"{len(wrong)} of {len(images)}: {wrong}"


def test_a_book_is_left_alone_while_it_is_emptied(desk):
    """All of it, its side and its count of orders, is as before, or empty, or its version is odd."""
    images = states(clear_all, (desk.live.agent.handle,), desk.watched)
    at = next(at for at, array in enumerate(desk.watched) if array.ctypes.data == desk.rows["books"].ctypes.data)
    books = [np.frombuffer(image[at], book_dtype) for image in images]
    names = [name for name in book_dtype.names if name != "version"]
    for now in books:
        for mine, before, after in zip(now, books[0], books[-1], strict=True):
            assert mine["version"] & 1 or mine[names].tobytes() in (before[names].tobytes(), after[names].tobytes())


@pytest.mark.parametrize("again", [Desk.start, Desk.change_over])
def test_nothing_looks_as_if_it_could_be_traded_while_all_is_made_anew(desk, monkeypatch, again):
    """Neither while the new feed makes its own memory, which may take a second, nor when flags that forbid something go."""
    seen = []

    def look(step):
        def looked(*arguments, **named):
            quotes = desk.rows["quotes"]
            seen.append(bool((quotes["state"] == LIVE).any() or quotes["trading"].any()))
            return step(*arguments, **named)

        return looked

    for name in ("private", "clear_all"):
        monkeypatch.setattr(build, name, look(getattr(build, name)))
    assert (desk.rows["quotes"]["state"] == LIVE).any() and desk.rows["instruments"]["flags"].any()
    again(desk)
    assert seen and not any(seen)


def test_a_breaker_is_whole_wherever_it_died_at_telling_it(desk):
    """Nobody was told and no instrument has it; or the next feed lets it fall on all, and strategies have heard of it."""
    for locate in (AAPL, MSFT):
        desk.send(itch.add(locate, 60 + locate, "B", 100, PX - 900, "AAPL" if locate == AAPL else "MSFT"))
    desk.live.until(lambda: desk.live.expected() == desk.seq + 1)
    first = len(desk.events())
    desk.live.send(itch.packet(desk.live.session, desk.seq + 1, itch.breach("2")))
    images = desk.die()
    outcomes = set()
    for image in images:
        put_back(desk.watched, image)
        desk.start()
        told = [int(event["ref"]) for event in desk.events()[first:] if int(event["kind"]) == EventKind.SYSTEM]
        fallen = {*desk.rows["quotes"]["breaker"][:2].tolist(), *desk.rows["statuses"]["breaker"][:2].tolist()}
        outcomes.add((tuple(sorted(set(told))), tuple(sorted(fallen)), int(desk.rows["session"]["breaker"][0])))
        assert not np.any(desk.rows["session"]["version"] & 1)
    assert outcomes == {((), (0,), 0), ((2,), (2,), 2)}

"""The ring as anybody would write it: a list of all records, and a place in it for each consumer."""


class NaiveRing:
    """What hftd/shm/ring.py promises, without memory, orders or speed. Records are integers."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.written: list[int] = []  # committed, in order; never forgotten
        self.published = 0
        self.gating: dict[int, int] = {}  # place -> next record
        self.observers: dict[int, int] = {}
        self.lost: dict[int, int] = {}

    def room(self, count: int) -> bool:
        """As the producer may at best see it: nothing unread, nothing unpublished is overwritten."""
        slowest = min([self.published, *self.gating.values()])
        return len(self.written) + count <= slowest + self.capacity

    def commit(self, value: int) -> None:
        """Append one record, visible to those who poll slots."""
        self.written.append(value)

    def publish(self) -> None:
        """Make all of it visible to those who poll the tail."""
        self.published = len(self.written)

    def take(self, place: int, slot_poll: bool) -> list[int]:
        """Everything a gating consumer may see now."""
        end = len(self.written) if slot_poll else max(self.published, self.gating[place])
        got = self.written[self.gating[place] : end]
        self.gating[place] = end
        return got

    def observe(self, place: int) -> tuple[int, int | None]:
        """(1, value), (0, None) where nothing is there, (-1, None) where it was lapped."""
        at = self.observers[place]
        if at < len(self.written) and at >= len(self.written) - self.capacity:
            self.observers[place] += 1
            return 1, self.written[at]
        if self.published - at < self.capacity:
            return 0, None
        resume = self.published - self.capacity // 2
        self.lost[place] += resume - at
        self.observers[place] = resume
        return -1, None

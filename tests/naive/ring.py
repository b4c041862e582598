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
        self.limit = self.reach = 0  # the producer's own, and what it told observers

    def room(self, count: int) -> bool:
        """Nothing unread, nothing unpublished is overwritten; the limit goes an eighth of the ring beyond what is asked for."""
        if self.limit - len(self.written) < count:
            slowest = min([self.published, *self.gating.values()])
            self.limit = min(slowest + self.capacity, len(self.written) + count + self.capacity // 8)
            self.reach = max(self.reach, self.limit)
        return self.limit - len(self.written) >= count

    def commit(self, value: int) -> None:
        """Append one record, visible to those who poll slots."""
        self.written.append(value)

    def publish(self) -> None:
        """Make all of it visible to those who poll the tail."""
        self.published = len(self.written)

    def restart(self) -> None:
        """A new producer: everything committed is published, and it looks before it writes."""
        self.publish()
        self.limit = self.published

    def take(self, place: int, slot_poll: bool) -> list[int]:
        """Everything a gating consumer may see now."""
        end = len(self.written) if slot_poll else max(self.published, self.gating[place])
        got = self.written[self.gating[place] : end]
        self.gating[place] = end
        return got

    def observe(self, place: int) -> tuple[int, int | None]:
        """(1, value), (0, None) where nothing is there, (-1, None) where it was lapped."""
        at = self.observers[place]
        if at >= self.reach - self.capacity:
            if at == len(self.written):
                return 0, None
            self.observers[place] += 1
            return 1, self.written[at]
        resume = max(self.published - self.capacity // 2, self.reach - self.capacity)
        self.lost[place] += resume - at
        self.observers[place] = resume
        return -1, None

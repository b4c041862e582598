"""The order table: where an order's row is, by our id and by the venue's number, and which rows are free.

    id        -> row    buckets of a hash, chained through the rows (`hash_next`)
    user_ref  -> row    a ring of row numbers: UserRefNum is ours to give, strictly rising, so it is its own index
    open orders         a list through the rows (`open_next`, `open_prev`), newest first
    finished orders     a queue of row numbers: the most recent KEEP_FINISHED stay readable, the oldest row is used again

Rows are never allocated: a new order takes the oldest finished row beyond those kept, else a row never used, else any finished
one; when every row is open the order is denied. The indexes are private to the process and rebuilt from the rows (`rebuild`).

Executions are kept in a ring of their own, by match number and order (both sides of one match may be ours).
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import layout
from hftd.core.memory import load32, prefetch_write, record_at, row, span, span_dtype, store32
from hftd.gateway.memory import fill_dtype, order_row_dtype, session_dtype
from hftd.gateway.order_state import MARK_ACCEPTED, MARK_CANCEL_WANTED, MARK_FOREIGN, MARK_UNKNOWN, NONE, is_open, open_status
from hftd.msg.enums import Side
from hftd.msg.ids import bucket_of
from hftd.msg.records import position_dtype

table_dtype = layout("order_table", 256, [
    ("rows", span_dtype),                         # order_row_dtype, row 0 unused; shared memory
    ("buckets", span_dtype),                      # i4: first row of each bucket of the id index
    ("refs", span_dtype),                         # i4: row of user_ref & mask
    ("finished", span_dtype),                     # i4: ring of finished rows
    ("fills", span_dtype),                        # fill_dtype; shared memory
    ("fill_buckets", span_dtype),                 # i4: 1 + first fill of each bucket
    ("positions", span_dtype),                    # position_dtype; shared memory
    ("session_at", "i8"),                         # address of the session_dtype record
    ("fresh", "i8"),                              # first row never used
    ("finished_head", "i8"),                      # oldest finished row: free-running
    ("finished_tail", "i8"),
    ("keep", "i8"),                               # finished rows kept before one is used again
    ("open_first", "i8"),                         # row of the newest open order; 0: none
    ("open_count", "i8"),
    ("wanted", "i8"),                             # open orders with a cancel to be sent
    ("peak", "i8"),
    ("pad", ("i8", (9,))),
])  # fmt: skip

_BUY = int(Side.BUY)
_ROW = order_row_dtype.itemsize


@leaf
def find_id(table, cl_ord_id):
    """Return the row of one of our order ids, or 0."""
    rows, buckets = span(table.rows), span(table.buckets)
    index = load32(buckets.base + 4 * bucket_of(cl_ord_id, buckets.count - 1))
    while index != 0:
        order = row(rows, index, order_row_dtype)
        if order.cl_ord_id == cl_ord_id:
            return index
        index = order.hash_next * 1
    return 0


@leaf
def find_ref(table, user_ref):
    """Return the row of a UserRefNum, or 0."""
    rows, refs = span(table.rows), span(table.refs)
    index = load32(refs.base + 4 * (user_ref & (refs.count - 1)))
    if index != 0 and row(rows, index, order_row_dtype).user_ref == user_ref:
        return index
    return 0


@leaf
def enter_id(table, index, order):
    """Put a row into the id index."""
    buckets = span(table.buckets)
    at = buckets.base + 4 * bucket_of(order.cl_ord_id, buckets.count - 1)
    order.hash_next = load32(at)
    store32(at, index)


@hot
def leave_id(table, index):
    """Take a row out of the id index, where it is in it."""
    rows, buckets = span(table.rows), span(table.buckets)
    order = row(rows, index, order_row_dtype)
    at = buckets.base + 4 * bucket_of(order.cl_ord_id, buckets.count - 1)
    here = load32(at)
    if here == index:
        store32(at, order.hash_next)
        return
    while here != 0:
        before = row(rows, here, order_row_dtype)
        if before.hash_next == index:
            before.hash_next = order.hash_next
            return
        here = before.hash_next * 1


@leaf
def enter_ref(table, index, user_ref):
    """Put a row into the index of UserRefNums."""
    refs = span(table.refs)
    store32(refs.base + 4 * (user_ref & (refs.count - 1)), index)


@leaf
def next_free_ref(table, user_ref):
    """Return the first UserRefNum from `user_ref` on whose place in the index is not held by an order that is still open."""
    rows, refs = span(table.rows), span(table.refs)
    for step in range(refs.count):
        index = load32(refs.base + 4 * ((user_ref + step) & (refs.count - 1)))
        if index == 0:
            return user_ref + step
        order = row(rows, index, order_row_dtype)
        if ((order.user_ref ^ (user_ref + step)) & (refs.count - 1)) != 0 or not is_open(order):
            return user_ref + step
    return user_ref


@leaf
def link_open(table, index, order):
    """Put a row at the head of the list of open orders."""
    rows = span(table.rows)
    first = table.open_first
    order.open_prev = 0
    order.open_next = first
    if first != 0:
        row(rows, first, order_row_dtype).open_prev = index
    table.open_first = index
    table.open_count += 1
    if table.open_count > table.peak:
        table.peak = table.open_count


@leaf
def clear_row(order):
    """Make a row an empty order."""
    order.status = NONE
    order.cl_ord_id, order.venue_id, order.px, order.count = 0, 0, 0, 0
    order.ts_recv, order.ts_sent, order.ts_answer, order.ts_event = 0, 0, 0, 0
    order.counted_cash, order.counted_qty, order.counted_open = 0, 0, 0
    order.user_ref, order.qty, order.cum, order.leaves = 0, 0, 0, 0
    order.prev, order.follow, order.marks, order.reason = 0, 0, 0, 0


@hot
def take_order(table):
    """Return a row to use for a new order, emptied, in no index; 0 when every row is open."""
    rows, finished = span(table.rows), span(table.finished)
    waiting = table.finished_tail - table.finished_head
    if waiting > table.keep or (table.fresh >= rows.count and waiting > 0):
        index = load32(finished.base + 4 * (table.finished_head & (finished.count - 1)))
        table.finished_head += 1
        leave_id(table, index)
    elif table.fresh < rows.count:
        index = table.fresh
        table.fresh += 1
    else:
        return 0
    clear_row(row(rows, index, order_row_dtype))
    return index


@leaf
def warm_next(table):
    """Ask for the lines of the row the next order will take."""
    rows, finished = span(table.rows), span(table.finished)
    index = table.fresh
    if table.finished_tail - table.finished_head > table.keep:
        index = load32(finished.base + 4 * (table.finished_head & (finished.count - 1)))
    if index < rows.count:
        prefetch_write(rows.base + index * _ROW)
        prefetch_write(rows.base + index * _ROW + 64)


@leaf
def want_cancel(table, order):
    """Note that an open order is to be cancelled as soon as it can be."""
    if not order.marks & MARK_CANCEL_WANTED:
        order.marks |= MARK_CANCEL_WANTED
        table.wanted += 1


@leaf
def unwant_cancel(table, order):
    """Note that an order's cancel was sent, or is not needed any more."""
    if order.marks & MARK_CANCEL_WANTED:
        order.marks &= ~MARK_CANCEL_WANTED
        table.wanted -= 1


@hot
def close_order(table, index):
    """Take a finished order off the list of open ones and into the queue of finished ones. The row stays readable."""
    rows, finished = span(table.rows), span(table.finished)
    session = record_at(table.session_at, session_dtype)
    order = row(rows, index, order_row_dtype)
    unwant_cancel(table, order)
    before, after = order.open_prev * 1, order.open_next * 1
    if before != 0:
        row(rows, before, order_row_dtype).open_next = after
    else:
        table.open_first = after
    if after != 0:
        row(rows, after, order_row_dtype).open_prev = before
    order.open_prev, order.open_next = 0, 0
    table.open_count -= 1
    if order.marks & MARK_FOREIGN:
        session.foreign_open -= 1
    session.open_orders = table.open_count
    store32(finished.base + 4 * (table.finished_tail & (finished.count - 1)), index)
    table.finished_tail += 1


# ---------------------------------------------------------------- positions


@hot
def recount(table, index):
    """Bring the position row's open quantities up to what order `index` and the replacements that follow it now add.

    A pending replacement adds what it would open beyond its original, so that the sum is the worst of both outcomes.
    """
    rows, positions = span(table.rows), span(table.positions)
    for _ in range(8):
        order = row(rows, index, order_row_dtype)
        if order.marks & MARK_FOREIGN or order.instrument >= positions.count:
            return
        qty, cash, alive = 0, 0, 0
        if is_open(order):
            alive = 1
            qty = order.leaves * 1
            cash = qty * order.px
            if order.prev != 0 and not order.marks & MARK_ACCEPTED:
                original = row(rows, order.prev * 1, order_row_dtype)
                if is_open(original):
                    qty = max(order.qty - original.qty, 0)
                    cash = max((order.qty - original.cum) * order.px - original.leaves * original.px, 0)
        position = row(positions, order.instrument * 1, position_dtype)
        if order.side == _BUY:
            position.open_buy_qty += qty - order.counted_qty
            position.open_buy_cash += cash - order.counted_cash
        else:
            position.open_sell_qty += qty - order.counted_qty
            position.open_sell_cash += cash - order.counted_cash
        position.open_orders += alive - order.counted_open
        order.counted_qty, order.counted_cash, order.counted_open = qty, cash, alive
        if order.follow == 0:
            return
        index = order.follow * 1


# ---------------------------------------------------------------- executions


@leaf
def _fill_bucket(match, user_ref, mask):
    key = match ^ (user_ref << 7)
    return ((((key ^ (key >> 32)) & 0xFFFFFFFF) * 0x1E3779B1 & 0xFFFFFFFFFFFF) >> 16) & mask


@hot
def find_fill(table, match, user_ref):
    """Return 1 + the row of an execution, or 0."""
    fills, buckets = span(table.fills), span(table.fill_buckets)
    index = load32(buckets.base + 4 * _fill_bucket(match, user_ref, buckets.count - 1))
    while index != 0:
        fill = row(fills, index - 1, fill_dtype)
        if fill.match == match and fill.user_ref == user_ref:
            return index
        index = fill.hash_next * 1
    return 0


@hot
def enter_fill(table, match, order, px, qty, ts_event, state):
    """Remember an execution of `order`, in the place of the oldest."""
    fills = span(table.fills)
    session = record_at(table.session_at, session_dtype)
    index = session.fills_next & (fills.count - 1)
    fill = row(fills, index, fill_dtype)
    if fill.state != 0:
        _leave_fill(table, index, fill)
    fill.match, fill.cl_ord_id, fill.px, fill.ts_event = match, order.cl_ord_id, px, ts_event
    fill.user_ref, fill.qty, fill.instrument, fill.side = order.user_ref, qty, order.instrument, order.side
    fill.earlier = order.count if order.marks & MARK_FOREIGN else 0
    fill.state = state
    session.fills_next += 1
    chain_fill(table, index)


@leaf
def chain_fill(table, index):
    """Put row `index` of the executions into its bucket."""
    fills, buckets = span(table.fills), span(table.fill_buckets)
    fill = row(fills, index, fill_dtype)
    at = buckets.base + 4 * _fill_bucket(fill.match, fill.user_ref * 1, buckets.count - 1)
    fill.hash_next = load32(at)
    store32(at, index + 1)


@leaf
def _leave_fill(table, index, fill):
    fills, buckets = span(table.fills), span(table.fill_buckets)
    at = buckets.base + 4 * _fill_bucket(fill.match, fill.user_ref * 1, buckets.count - 1)
    here = load32(at)
    if here == index + 1:
        store32(at, fill.hash_next)
        return
    while here != 0:
        before = row(fills, here - 1, fill_dtype)
        if before.hash_next == index + 1:
            before.hash_next = fill.hash_next
            return
        here = before.hash_next * 1


# ---------------------------------------------------------------- after a crash


@leaf
def find_holder(table, user_ref):
    """Return the row that holds a UserRefNum's place in the index, or 0."""
    refs = span(table.refs)
    return load32(refs.base + 4 * (user_ref & (refs.count - 1)))


@hot
def rebuild(table):
    """Make every index anew from the rows, after the process that wrote them died. The indexes must be zeroed. Returns open orders.

    Open orders come out in the state the venue told last: `lose_orders` makes them UNKNOWN. Rows never used that lie between
    used ones are queued as finished.
    """
    rows, finished, fills, positions = span(table.rows), span(table.finished), span(table.fills), span(table.positions)
    session = record_at(table.session_at, session_dtype)
    for i in range(positions.count):
        position = row(positions, i, position_dtype)
        position.open_buy_qty, position.open_sell_qty, position.open_buy_cash, position.open_sell_cash = 0, 0, 0, 0
        position.open_orders = 0
    table.fresh = 1
    for i in range(1, rows.count):
        if row(rows, i, order_row_dtype).status != NONE:
            table.fresh = i + 1
    session.foreign_open = 0
    for i in range(1, table.fresh):
        order = row(rows, i, order_row_dtype)
        order.counted_qty, order.counted_cash, order.counted_open = 0, 0, 0
        order.open_prev, order.open_next, order.hash_next = 0, 0, 0
        if order.status == NONE:
            order.cl_ord_id, order.user_ref = 0, 0
        if order.cl_ord_id != 0:
            enter_id(table, i, order)
        if order.status != NONE:
            held = find_holder(table, order.user_ref * 1)
            if held == 0 or is_open(order):
                enter_ref(table, i, order.user_ref * 1)
        if is_open(order):
            table.wanted += 1 if order.marks & MARK_CANCEL_WANTED else 0
            order.marks &= ~MARK_UNKNOWN
            order.status = open_status(order.marks, order.cum)
            link_open(table, i, order)
            if order.marks & MARK_FOREIGN:
                session.foreign_open += 1
        else:
            store32(finished.base + 4 * (table.finished_tail & (finished.count - 1)), i)
            table.finished_tail += 1
    for i in range(1, table.fresh):
        if row(rows, i, order_row_dtype).prev == 0:
            recount(table, i)
    for i in range(1, table.fresh):
        recount(table, i)
    for i in range(fills.count):
        if row(fills, i, fill_dtype).state != 0:
            chain_fill(table, i)
    session.open_orders = table.open_count
    return table.open_count

"""The matching engine: price first, then time, at the resting order's price. It is the referee: what it logs is what happened.

An account's message becomes one action here: `enter`, `replace`, `cancel`, `modify`, and so on. Each action publishes what a market
data reader would see (A E X D U), answers the accounts it concerns, and writes the ledger: a row of the order log per accepted
order, a row of the fill log per trade with an account in it, and one position row per account and symbol. The market's own
flow trades as account 0, so that over all rows bought equals sold, in shares and in cash.

OUCH's quantities: an Enter's is the order's; a Replace's and a Cancel's is the intended TOTAL of the chain, executed shares
included. A Replace loses the place in the queue and gets a new reference. Where the specification is silent the choice is ours,
and said here: a replace whose details are wrong, or whose total is executed already, cancels the original (reason Z, U) and does
not use up the new number; a replace in a halted symbol is rejected and the original stays; a post-only order that would take is
accepted and canceled at once (reason F); an immediate-or-cancel order's rest is canceled with reason I; a market order is
immediate-or-cancel whatever its time in force; a Mass Cancel is for orders entered with the firm it names (blank: with none, the
account's default), its side S means every kind of sale, and with a side we do not know it is ignored. Two orders of one account do
trade with each other: counted, not prevented.
"""

from hftd.core.jit import hot, leaf
from hftd.core.layout import offset_of
from hftd.core.memory import address_of, copy_bytes, load8, load16, load32, record_at, row, span, swap16, swap32, swap64
from hftd.msg.records import position_dtype
from hftd.sim.book import (
    adopt,
    best_px,
    find,
    half_of,
    new_order,
    own_key,
    reaches,
    reduce,
    rest,
    retire,
)
from hftd.sim.chance import chance
from hftd.sim.memory import (
    ORDER_CANCELED,
    ORDER_FILLED,
    ORDER_OPEN,
    ORDER_REPLACED,
    account_dtype,
    level_dtype,
    order_dtype,
    order_log_dtype,
    symbol_dtype,
)
from hftd.sim.tape import (
    ID_SIZE,
    ORDER_LOG_SIZE,
    grow,
    new_fill,
    order_log_row,
    publish_add,
    publish_cancel,
    publish_delete,
    publish_executed,
    publish_replace,
    respond,
    say_accepted,
    say_canceled,
    say_executed,
    say_rejected,
    say_replaced,
)
from hftd.venues.nasdaq import ouch50 as ouch

_ENTER_ID = offset_of(ouch.in_enter_order_dtype, "cl_ord_id")
_REPLACE_ID = offset_of(ouch.in_replace_order_dtype, "cl_ord_id")
_ORDER_ID = offset_of(order_dtype, "cl_ord_id")
_ENTER, _REPLACE = 47, 40

QTY_MAX = 999_999
PX_MAX = 1_999_999_900  # the highest limit price
PX_MARKET = 2_000_000_000  # from here on a price means: at the market
PX_MARKET_4 = 0x7FFFFFFF
DOLLAR = 10_000
TAG_FIRM, TAG_POST_ONLY, TAG_SIDE = 2, 12, 27
NO_FIRM = 0x20202020

R_HALTED, R_INVALID_SIDE, R_PROCESSING_ERROR, R_OTHER = 0x07, 0x09, 0x0A, 0x0F
R_INVALID_DISPLAY, R_INVALID_QUANTITY, R_INVALID_CROSS, R_INVALID_SYMBOL, R_INVALID_PRICE = 0x03, 0x13, 0x14, 0x17, 0x1D
R_FIRM_NOT_AUTHORIZED = 0x0C

C_USER, C_IOC, C_POST_ONLY, C_SYSTEM, C_SUPERVISORY = ord("U"), ord("I"), ord("F"), ord("Z"), ord("S")
BUY_CODE, SELL_CODE, SHORT_CODE, EXEMPT_CODE = ord("B"), ord("S"), ord("T"), ord("E")
ADDED, REMOVED = ord("A"), ord("R")
TRADING = ord("T")


# ---------------------------------------------------------------- the ledger


@leaf
def position_of(x, a, locate):
    """The ledger's row of account `a` and a symbol."""
    return row(span(x.positions), a * span(x.symbols).count + locate, position_dtype)


@hot
def enter_position(x, a, locate, side, px, qty):
    """Write one side of a trade into the ledger."""
    position = position_of(x, a, locate)
    if side == 0:
        position.bought_qty += qty
        position.bought_cash += px * qty
    else:
        position.sold_qty += qty
        position.sold_cash += px * qty
    position.fills += 1
    position.last_fill_px = px


@hot
def log_execution(x, index, px, qty, flag, match):
    """Order `index` of an account traded: its log row, its chain, its owner's answer."""
    order = row(span(x.orders.rows), index, order_dtype)
    logged = order_log_row(x, order.log)
    logged.filled += qty
    logged.cash += px * qty
    order.executed += qty
    enter_position(x, order.account, order.locate, order.side, px, qty)
    row(span(x.accounts), order.account, account_dtype).fills += 1
    say_executed(x, order.account, order.user_ref, qty, px, flag, match)


@hot
def close_log(x, index, state, reason):
    """Order `index` of an account has ended: write why. Called before it is retired."""
    logged = order_log_row(x, row(span(x.orders.rows), index, order_dtype).log)
    logged.state = state
    logged.reason = reason
    logged.ts_end = x.ts


@hot
def open_log(x, index, orig_user_ref):
    """Order `index` of an account was accepted: its row in the log."""
    order = row(span(x.orders.rows), index, order_dtype)
    logged = record_at(grow(x.order_log, ORDER_LOG_SIZE), order_log_dtype)
    order.log = x.order_log.count
    logged.account = order.account
    logged.user_ref = order.user_ref
    logged.orig_user_ref = orig_user_ref
    logged.ref = order.ref
    logged.locate = order.locate
    logged.side = order.side
    logged.px = order.px
    logged.qty = order.left
    logged.filled = 0
    logged.cash = 0
    logged.canceled = 0
    logged.state = ORDER_OPEN
    logged.reason = 0
    logged.ts = x.ts
    logged.ts_end = 0
    position_of(x, order.account, order.locate).orders += 1


# ---------------------------------------------------------------- trading


@hot
def execute(x, index, qty, taker, side):
    """Resting order `index` trades `qty` shares with an aggressor of `side`: order `taker`, or 0 for the market's flow.

    Publishes nothing: the caller has said E or C. Returns the match number used.
    """
    orders = span(x.orders.rows)
    order = row(orders, index, order_dtype)
    match = x.match_next
    x.match_next += 1
    px = order.px
    locate = order.locate
    maker = order.account
    taker_account = 0
    taker_ref = 0
    if taker != 0:
        taker_account = row(orders, taker, order_dtype).account
        taker_ref = row(orders, taker, order_dtype).user_ref
    symbol = row(span(x.symbols), locate, symbol_dtype)
    symbol.trades += 1
    symbol.shares += qty
    symbol.last_px = px
    symbol.last_qty = qty
    if maker == 0 and taker == 0:
        x.flow_trades += 1
    else:
        x.own_trades += 1
        fill = new_fill(x)
        fill.ts = x.ts
        fill.match = match
        fill.locate = locate
        fill.px = px
        fill.qty = qty
        fill.maker = maker
        fill.maker_ref = order.user_ref
        fill.taker = taker_account
        fill.taker_ref = taker_ref
        fill.maker_side = order.side
        fill.seq = x.tape.count
        if maker == 0:
            enter_position(x, 0, locate, 1 - side, px, qty)
        else:
            log_execution(x, index, px, qty, ADDED, match)
        if taker == 0:
            enter_position(x, 0, locate, side, px, qty)
        else:
            log_execution(x, taker, px, qty, REMOVED, match)
        if maker != 0 and maker == taker_account:
            x.self_trades += 1
            row(span(x.accounts), maker, account_dtype).self_trades += 1
    reduce(x, index, qty)
    if order.left == 0:
        if maker != 0:
            close_log(x, index, ORDER_FILLED, 0)
            retire(x, index)
        elif order.hist <= 0:
            retire(x, index)
    return match


@hot
def sweep(x, locate, side, px, qty, taker, own_only):
    """Trade up to `qty` shares for an aggressor of `side` with limit `px`; returns what is left of them.

    taker: its order row, 0 for the market's flow. own_only: 1 passes over resting orders of the market (history has its own say
    about those).
    """
    orders = span(x.orders.rows)
    levels = span(x.levels.rows)
    half = half_of(x, locate, 1 - side)
    at = half.best
    while qty > 0 and at != 0:
        level = row(levels, at, level_dtype)
        if not reaches(side, px, level.px):
            break
        after = level.next
        if own_only == 0 or level.own > 0:
            index = level.head
            while qty > 0 and index != 0:
                order = row(orders, index, order_dtype)
                behind = order.next
                if own_only == 0 or order.account != 0:
                    size = min(qty, order.left)
                    publish_executed(x, locate, order.ref, size, x.match_next)
                    execute(x, index, size, taker, side)
                    qty -= size
                index = behind
        at = after
    return qty


@hot
def would_take(x, locate, side, px):
    """Whether an order would trade at once."""
    best = best_px(x, locate, 1 - side)
    return best != 0 and reaches(side, px, best)


@hot
def work(x, index, replaced_ref):
    """Bring an accepted order of an account to the book: trade what trades, rest or cancel what is left.

    replaced_ref: reference of the order whose place it takes and which just left the book (published here); 0: none.
    """
    order = row(span(x.orders.rows), index, order_dtype)
    crossing = would_take(x, order.locate, order.side, order.px)
    if crossing and order.post_only == 1:
        if replaced_ref != 0:
            publish_delete(x, order.locate, replaced_ref)
        cancel_rest(x, index, C_POST_ONLY)
        return
    if replaced_ref != 0:
        if crossing or order.ioc == 1:
            publish_delete(x, order.locate, replaced_ref)
        else:
            publish_replace(x, order.locate, replaced_ref, order.ref, order.left, order.px)
            rest(x, index)
            return
    if crossing:
        order.left = sweep(x, order.locate, order.side, order.px, order.left, index, 0)
    if order.left == 0:
        close_log(x, index, ORDER_FILLED, 0)
        retire(x, index)
    elif order.ioc == 1:
        cancel_rest(x, index, C_IOC)
    else:
        publish_add(x, index)
        rest(x, index)


@hot
def cancel_rest(x, index, reason):
    """Cancel all that is open of an account's order, tell its owner, and retire it; the book is told by the caller."""
    order = row(span(x.orders.rows), index, order_dtype)
    order_log_row(x, order.log).canceled += order.left
    close_log(x, index, ORDER_CANCELED, reason)
    row(span(x.accounts), order.account, account_dtype).canceled += 1
    say_canceled(x, order.account, order.user_ref, order.left, reason)
    retire(x, index)


@hot
def take_out(x, index, reason):
    """Cancel a resting order of an account, and say so to the market."""
    order = row(span(x.orders.rows), index, order_dtype)
    publish_delete(x, order.locate, order.ref)
    cancel_rest(x, index, reason)


@hot
def cut_down(x, index, total, reason):
    """Bring an account's order to an intended total of `total` shares, executed ones included. Nothing to do: says nothing."""
    order = row(span(x.orders.rows), index, order_dtype)
    left = max(total - order.executed, 0)
    if left >= order.left:
        return
    if left == 0:
        take_out(x, index, reason)
        return
    gone = order.left - left
    publish_cancel(x, order.locate, order.ref, gone)
    reduce(x, index, gone)
    order.canceled += gone
    order_log_row(x, order.log).canceled += gone
    say_canceled(x, order.account, order.user_ref, gone, reason)


# ---------------------------------------------------------------- what an account may ask


@leaf
def element(at, size, tag, width):
    """Return the address of the last value of element `tag`, `width` bytes, in the appendage of `size` bytes at `at`; 0: none.

    Elements we do not know are skipped by their length.
    """
    found = 0
    position = 0
    while position + 2 <= size:
        length = load8(at + position)
        if length == 0 or position + 1 + length > size:
            break
        if load8(at + position + 1) == tag and length == width + 1:
            found = at + position + 2
        position += 1 + length
    return found


@leaf
def post_only_asked(at, size):
    """Whether the appendage of `size` bytes at `at` asks for post-only."""
    value = element(at, size, TAG_POST_ONLY, 1)
    return 1 if value != 0 and load8(value) == 80 else 0


@leaf
def appendage(at, size, fixed):
    """Bytes of appendage that follow the fixed part, as its length field (the last two fixed bytes) says, held to what came."""
    return min(swap16(load16(at + fixed - 2)), size - fixed)


@leaf
def bad_price(x, px):
    """Whether a limit price is refused: 0, negative, above the highest, or finer than the tick from a dollar up."""
    return px <= 0 or px > PX_MAX or (px >= DOLLAR and px % x.tick_min != 0)


@leaf
def at_market(px):
    """Whether a price field means a market order."""
    return px >= PX_MARKET or px == PX_MARKET_4


@leaf
def bad_tif(tif):
    """Time in force: 0 day, 3 immediate or cancel, 5 and E extended hours (a day here)."""
    return tif != 48 and tif != 51 and tif != 53 and tif != 69


@hot
def judge(x, account, message, locate):
    """Return the reject reason of an Enter Order, 0 where it is good. message: in_enter_order_dtype record."""
    px = swap64(message.price)
    side = message.side
    qty = swap32(message.qty)
    reason = 0
    if account.disabled != 0:
        reason = R_FIRM_NOT_AUTHORIZED
    elif locate == 0:
        reason = R_INVALID_SYMBOL
    elif qty < 1 or qty > QTY_MAX:
        reason = R_INVALID_QUANTITY
    elif side != BUY_CODE and side != SELL_CODE and side != SHORT_CODE and side != EXEMPT_CODE:
        reason = R_INVALID_SIDE
    elif not at_market(px) and bad_price(x, px):
        reason = R_INVALID_PRICE
    elif message.display != 89 and message.display != 65:
        reason = R_INVALID_DISPLAY
    elif message.cross_type != 78:
        reason = R_INVALID_CROSS
    elif bad_tif(message.tif) or (message.capacity != 65 and message.capacity != 80 and message.capacity != 82
                                  and message.capacity != 79):  # fmt: skip
        reason = R_OTHER
    elif row(span(x.symbols), locate, symbol_dtype).state != TRADING:
        reason = R_HALTED
    elif x.reject > 0 and chance(x, x.reject):
        reason = R_PROCESSING_ERROR
    return reason


@hot
def enter(x, a, at, size):
    """O: Enter Order. at, size: the message, at least its fixed part."""
    account = row(span(x.accounts), a, account_dtype)
    message = record_at(at, ouch.in_enter_order_dtype)
    user_ref = swap32(message.user_ref_num)
    if user_ref <= account.user_ref:
        account.ignored += 1
        return
    account.user_ref = user_ref
    locate = find(x.stocks, message.symbol)
    reason = judge(x, account, message, locate)
    if reason != 0:
        say_rejected(x, a, user_ref, reason, at + _ENTER_ID)
        return
    said = swap64(message.price)
    px = said
    side = 0 if message.side == BUY_CODE else 1
    market = at_market(said)
    if market:
        px = PX_MAX if side == 0 else 1
    index = new_order(x, x.ref_next, locate, side, px, swap32(message.qty))
    if index == 0:
        say_rejected(x, a, user_ref, R_PROCESSING_ERROR, at + _ENTER_ID)
        return
    x.ref_next += 1
    order = row(span(x.orders.rows), index, order_dtype)
    order.account = a
    order.user_ref = user_ref
    order.side_code = message.side
    order.tif = message.tif
    order.display = message.display
    order.capacity = message.capacity
    order.iso = message.iso
    order.cross_type = message.cross_type
    options = appendage(at, size, _ENTER)
    order.post_only = post_only_asked(at + _ENTER, options)
    firm = element(at + _ENTER, options, TAG_FIRM, 4)
    order.firm = load32(firm) if firm != 0 else NO_FIRM
    order.ioc = 1 if market or message.tif == 51 else 0
    copy_bytes(address_of(order) + _ORDER_ID, at + _ENTER_ID, ID_SIZE)
    adopt(x, index)
    open_log(x, index, 0)
    account.entered += 1
    say_accepted(x, index, said, order.left)
    work(x, index, 0)


@hot
def replace(x, a, at, size):
    """U: Replace Order."""
    orders = span(x.orders.rows)
    account = row(span(x.accounts), a, account_dtype)
    message = record_at(at, ouch.in_replace_order_dtype)
    user_ref = swap32(message.user_ref_num)
    orig_user_ref = swap32(message.orig_user_ref_num)
    index = find(x.owns, own_key(a, orig_user_ref))
    if index == 0 or user_ref <= account.user_ref:
        account.ignored += 1
        return
    original = row(orders, index, order_dtype)
    said = swap64(message.price)
    total = swap32(message.qty)
    market = at_market(said)
    wrong = total < 1 or total > QTY_MAX or (not market and bad_price(x, said)) or bad_tif(message.tif)
    wrong = wrong or (message.display != 89 and message.display != 65)
    if wrong or total <= original.executed or account.disabled != 0:
        take_out(x, index, C_SYSTEM if wrong else C_USER)
        return
    px = said
    if market:
        px = PX_MAX if original.side == 0 else 1
    halted = row(span(x.symbols), original.locate, symbol_dtype).state != TRADING
    made = 0 if halted else new_order(x, x.ref_next, original.locate, original.side, px, total - original.executed)
    if made == 0:
        account.user_ref = user_ref
        say_rejected(x, a, user_ref, R_HALTED if halted else R_PROCESSING_ERROR, at + _REPLACE_ID)
        return
    x.ref_next += 1
    account.user_ref = user_ref
    order = row(orders, made, order_dtype)
    order.account = a
    order.user_ref = user_ref
    order.executed = original.executed
    order.side_code = original.side_code
    order.tif = message.tif
    order.display = message.display
    order.capacity = original.capacity
    order.iso = message.iso
    order.cross_type = original.cross_type
    order.post_only = post_only_asked(at + _REPLACE, appendage(at, size, _REPLACE))
    order.firm = original.firm
    order.ioc = 1 if market or message.tif == 51 else 0
    copy_bytes(address_of(order) + _ORDER_ID, at + _REPLACE_ID, ID_SIZE)
    replaced_ref = original.ref
    close_log(x, index, ORDER_REPLACED, 0)
    retire(x, index)
    adopt(x, made)
    open_log(x, made, orig_user_ref)
    account.replaced += 1
    say_replaced(x, made, orig_user_ref, said, order.left)
    work(x, made, replaced_ref)


@hot
def cancel(x, a, at):
    """X: Cancel Order, to a new intended total. Of an order that is not open: nothing, as the specification says."""
    message = record_at(at, ouch.in_cancel_order_dtype)
    index = find(x.owns, own_key(a, swap32(message.user_ref_num)))
    if index == 0:
        row(span(x.accounts), a, account_dtype).ignored += 1
        return
    cut_down(x, index, swap32(message.qty), C_USER)


@hot
def modify(x, a, at):
    """M: Modify Order: the side among the kinds of sale, and a smaller total. Keeps the place in the queue."""
    account = row(span(x.accounts), a, account_dtype)
    message = record_at(at, ouch.in_modify_order_dtype)
    index = find(x.owns, own_key(a, swap32(message.user_ref_num)))
    if index == 0:
        account.ignored += 1
        return
    order = row(span(x.orders.rows), index, order_dtype)
    was, wanted = order.side_code, message.side
    allowed = was == wanted or (was == SELL_CODE and (wanted == SHORT_CODE or wanted == EXEMPT_CODE))
    allowed = allowed or (was == EXEMPT_CODE and wanted == SHORT_CODE)
    if not allowed:
        account.ignored += 1
        return
    left = swap32(message.qty) - order.executed
    if left <= 0:
        take_out(x, index, C_USER)
        return
    order.side_code = wanted
    if left < order.left:
        gone = order.left - left
        publish_cancel(x, order.locate, order.ref, gone)
        reduce(x, index, gone)
        order.canceled += gone
        order_log_row(x, order.log).canceled += gone
    answer = record_at(respond(x, a, ouch.OUT_ORDER_MODIFIED, 18), ouch.out_order_modified_dtype)
    answer.user_ref_num = message.user_ref_num
    answer.side = wanted
    answer.qty = swap32(order.left)


@leaf
def side_meant(order, side):
    """Whether a mass cancel's side means an order: 0 all, B buys, S every kind of sale, T and E that kind."""
    return side == 0 or side == order.side_code or (side == SELL_CODE and order.side == 1)


@hot
def cancel_all(x, a, stock, firm, side, reason):
    """Cancel an account's open orders: in one symbol, of one firm, of one side, where these are not 0. Returns how many."""
    orders = span(x.orders.rows)
    index = row(span(x.accounts), a, account_dtype).own
    gone = 0
    while index != 0:
        order = row(orders, index, order_dtype)
        behind = order.own_next
        meant = stock == 0 or row(span(x.symbols), order.locate, symbol_dtype).stock == stock
        if meant and (firm == 0 or order.firm == firm) and side_meant(order, side):
            take_out(x, index, reason)
            gone += 1
        index = behind
    return gone

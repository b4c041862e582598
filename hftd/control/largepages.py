"""How many reserved 2 MiB pages a configuration takes: `hftd check` names the number, before anything was started.

Counted from what each role asks for in large blocks, and from what its rehearsal does: it plays on blocks of the same kind, and may
still hold them when the role opens its own. A test holds the numbers to what the roles really ask for.
"""

from hftd.control.config import Config, role_placement
from hftd.control.host import Placement
from hftd.control.rehearsal import private_config
from hftd.core.placement import HUGE
from hftd.feed import setup as feed
from hftd.gateway import setup as gateway
from hftd.msg.enums import Role
from hftd.shm import map as shared
from hftd.strategy import setup as strategy


def blocks(config: Config, role: Role) -> list[int]:
    """Return the bytes of each block that one agent of a role asks large pages for."""
    if role == Role.FEED:
        return feed.large_blocks(config)
    if role == Role.STRATEGY:
        return [strategy.large_block(config)]
    return [gateway.private_bytes(gateway.private_sizes(config))] if role == Role.GATEWAY else []


def pages(sizes: list[int]) -> int:
    """Return the 2 MiB pages that blocks of so many bytes take: whole ones each, and one at least."""
    return sum(max(-(-size // HUGE), 1) for size in sizes)


def rehearsed(role: Role, fused: bool) -> tuple[Role, ...]:
    """Return the roles that play in one process's rehearsal: an order goes through risk and gateway."""
    if role in (Role.FEED, Role.STRATEGY):
        return (role,)
    if role == Role.RECORDER:
        return ()
    return (Role.STRATEGY, Role.RISK, Role.GATEWAY) if fused else (Role.RISK, Role.GATEWAY)


def wanted(config: Config, placement: Placement) -> dict[str, int]:
    """Return the reserved pages that each process takes which is to have them: role -> pages, its rehearsal's included."""
    small = private_config(config, 0, "")
    found = {}
    for role, _, name in shared.agents(config):
        if role_placement(config, name).huge_pages != "reserved" or (placement.fused and role in (Role.STRATEGY, Role.RISK)):
            continue
        fused = placement.fused and role == Role.GATEWAY
        members = (Role.STRATEGY, Role.RISK, Role.GATEWAY) if fused else (role,)
        count = sum(pages(blocks(config, one)) for one in members)
        count += sum(pages(blocks(small, one)) for one in rehearsed(role, fused))
        if count:
            found[name] = count
    return found

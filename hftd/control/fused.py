"""The fused host: strategy, risk and gateway duty cycles in one process, called in turn over the same rings.

The lowest latency on few cores, at the price of risk's independence: said at start, refused where `daemon.allow_fused` is false.
"""

import functools
import time
import traceback
from pathlib import Path

from hftd.core.agent import PARK_TURNS, SPIN_TURNS, STOP_SIGNALS, Agent, Flag
from hftd.core.bind import bind
from hftd.core.duty import fused_cycle
from hftd.gateway.loop import gateway_turn
from hftd.msg.enums import AgentState, Reason, Role, RunState
from hftd.risk.loop import risk_turn


@functools.cache
def fused_kernel(program):
    """Return the compiled fused loop of one strategy program; of one program object always the same."""
    return bind(fused_cycle, program.name, salt=program.digest, turn_a=program.turn(), turn_b=risk_turn, turn_c=gateway_turn)


FOLDERS = {"strategy": Role.STRATEGY, "risk": Role.RISK, "gateway": Role.GATEWAY}


def blamed(error: BaseException, strategy_file: str) -> Role:
    """Return whose code an error of the fused process came out of: the first of the three that stands in its traceback.

    strategy_file: the file of the process's strategy. The gateway answers for what is nobody's.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.name == Path(strategy_file).name:
            return Role.STRATEGY
        if file.parent.parent.name == "hftd" and file.parent.name in FOLDERS:
            return FOLDERS[file.parent.name]
    return Role.GATEWAY


class FusedHost:
    """Runs three agents (strategy, risk, gateway, in this order) in one loop."""

    def __init__(self, agents: list[Agent]):
        self.agents = agents
        self._busy = -1

    def _drained(self, code: int) -> bool:
        """Tell whether the last reports have been taken: a slice in which neither strategy nor risk found work."""
        busy = sum(int(agent.mark["busy"]) for agent in self.agents[:2])
        settled, self._busy = code == 0 and busy == self._busy, busy
        return settled

    def serve(self, spin: bool) -> int:
        """Run until the daemon stops or its supervisor is gone; return a process exit code."""
        stopped = Flag(*STOP_SIGNALS)
        strategy, risk, gateway = self.agents
        for agent in self.agents:
            agent.prepare(spin)
        kernel = fused_kernel(strategy.program)
        turns = SPIN_TURNS // 3 if spin else PARK_TURNS
        run, waiting = gateway.run, gateway.waiting
        meter = gateway.open_meter(spin)
        try:
            while True:
                meter.begin()
                code = kernel(strategy.handle, strategy.mark, risk.handle, risk.mark, gateway.handle, gateway.mark, waiting, turns)
                meter.end()
                for place, agent in enumerate(self.agents):
                    reason = code >> 8 * place & 255
                    if reason not in (Reason.SLICE, Reason.STOP):
                        agent.mark["reason"] = reason
                        agent.on_reason(reason)
                now = time.monotonic_ns()
                for agent in self.agents:
                    agent.cold(now)
                if gateway.keep_warm is not None:
                    gateway.keep_warm.turn(now)
                for agent in self.agents:
                    if agent.warm_at_ns >= 0:
                        agent.watch_warm()
                if stopped or run["state"] >= RunState.STOPPING:
                    for agent in self.agents:
                        agent.stopping = True
                        agent.mark["state"] = int(AgentState.STOPPING)
                    if gateway.stop() and self._drained(code):
                        return gateway.exit_code
        finally:
            for agent in reversed(self.agents):
                agent.close()
                agent.mark["state"], agent.mark["pid"] = int(AgentState.STOPPED), 0

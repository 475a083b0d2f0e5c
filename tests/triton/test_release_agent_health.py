"""What the agent's probes say while processes of models die, come back, and stay dead."""

import os
import signal

import httpx
import pytest
from waiting import WAIT_S, wait_for
from wetread_bench.servers import free_port
from wetread_embedded import EmbeddedTriton
from wetread_release.agent.health import AgentHealth

pytestmark = pytest.mark.triton


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=WAIT_S)


def ask(door, path):
    answer = get(f"http://127.0.0.1:{door.port}{path}")
    return answer.status_code, answer.text


def test_a_dead_stub_that_is_healed_costs_no_restart_and_one_that_stays_dead_does(tiny):
    tiny.add_python("echo")
    with EmbeddedTriton(tiny.config(canary_interval_s=0.5)) as server:
        health = AgentHealth(lambda: "" if server.rest.is_ready("echo") else "echo is not ready", failed_heals=2)
        health.follow(server._attendant)
        with health.door("127.0.0.1", 0) as door:
            assert ask(door, "/stubs") == (200, "ok\n")
            os.kill(server.stub_pids()["echo_model"][0], signal.SIGKILL)
            heard = set()
            assert wait_for(lambda: heard.add(ask(door, "/stubs")[0]) or server.heals)
            assert heard == {200}
            assert 'wetread_agent_heals_total{model="echo_model"} 1.0' in ask(door, "/metrics")[1]
            assert wait_for(lambda: 'wetread_agent_dead_stubs{model="echo_model"} 0.0' in ask(door, "/metrics")[1])
            assert wait_for(lambda: 'wetread_agent_settled{pipeline="echo"} 1.0' in ask(door, "/metrics")[1])
            assert ask(door, "/readyz") == (200, "ok\n")

            config = server._store.models / "echo_model" / "config.pbtxt"
            good = config.read_text()
            config.write_text("no configuration")  # nothing can be loaded from it
            os.kill(server.stub_pids()["echo_model"][0], signal.SIGKILL)
            assert wait_for(lambda: ask(door, "/stubs")[0] == 503, 30.0)
            assert "echo_model is dead" in ask(door, "/stubs")[1]
            assert 'wetread_agent_dead_stubs{model="echo_model"} 1.0' in ask(door, "/metrics")[1]
            assert get(f"{server.http_url}/v2/health/ready").status_code in (200, 400)
            assert get(f"{server.http_url}/v2/health/live").status_code == 200
            assert ask(door, "/healthz")[0] == 200

            config.write_text(good)
            assert wait_for(lambda: ask(door, "/stubs")[0] == 200, 60.0)
            health.let_go()  # the server ends: what was healed stays counted
            assert 'wetread_agent_heals_total{model="echo_model"} 2.0' in ask(door, "/metrics")[1]


def test_an_embedded_server_has_the_same_probes_where_a_port_is_given(tiny):
    tiny.add_python("echo")
    port = free_port()
    with EmbeddedTriton(tiny.config(agent_port=port)):
        answers = [get(f"http://127.0.0.1:{port}{path}") for path in ("/healthz", "/readyz", "/stubs")]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
    with pytest.raises(httpx.ConnectError):
        get(f"http://127.0.0.1:{port}/healthz")

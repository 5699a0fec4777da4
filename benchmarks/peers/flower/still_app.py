"""Rounds without training, as an app of Flower: runs in an environment that has `flwr` alone.

The model begins as that of benchmarks/overhead_task.py; a client adds its number to each element
and sends all back. FedAvg of all clients; nothing is evaluated. When rounds begin and end goes to a
file, a line of JSON each.
"""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    """One step."""
    step = np.float32(context.node_config["step"])
    trained = [array + step for array in message.content["arrays"].to_numpy_ndarrays()]
    content = RecordDict(
        {
            "arrays": ArrayRecord(trained),
            "metrics": MetricRecord({"num-examples": context.run_config["examples"]}),
        }
    )
    return Message(content=content, reply_to=message)


class TimedFedAvg(FedAvg):
    """FedAvg that notes when a round begins, and when its model is made."""

    marks: Path

    def configure_train(self, server_round, arrays, config, grid):
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._note(began=server_round)
        return messages

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        made = super().aggregate_train(server_round, replies)
        self._note(made=server_round, replies=len(replies))
        return made

    def _note(self, **what):
        with self.marks.open("a") as file:
            file.write(json.dumps({"time": time.time(), **what}) + "\n")


def beginning(elements, tensors, piece=2**20):
    """The first model's tensors."""
    numbers = np.random.default_rng(0).random(min(elements, piece), dtype=np.float32)
    each = elements // tensors
    return np.split(np.resize(numbers, elements), range(each, tensors * each, each))


@server.main()
def main(grid, context):
    """All rounds."""
    config = context.run_config
    clients = config["clients"]
    strategy = TimedFedAvg(
        fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
    )
    strategy.marks = Path(config["marks"])
    first = beginning(config["elements"], config["tensors"])
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(first),
        train_config=ConfigRecord({}),
        num_rounds=config["rounds"],
    )
    moved = np.concatenate(result.arrays.to_numpy_ndarrays()) - np.concatenate(first)
    strategy._note(low=float(moved.min()), high=float(moved.max()), elements=moved.size)

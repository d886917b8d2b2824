"""A training run that writes down which records each worker used in every step: SHARDS OUT key=value ...

Run as a program: Ray sends the functions of a program to workers as they stand here.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from vizecg.platform.config import load_config
from vizecg.platform.train import driver


def recording_worker(arguments: dict[str, Any]) -> None:
    """One line a step: which start of the workers it was, its step, and the records of this worker."""
    from vizecg.platform.train.loop import TrainingRun
    from vizecg.platform.train.ray_worker import ray_worker

    step, started = TrainingRun._step, time.time_ns()

    def recorded(self: TrainingRun, batch: Any, *more: Any) -> Any:
        if not hasattr(self, "generation"):
            self.generation = max(self.worker.gather(started))
        row = {
            "generation": self.generation, "epoch": self.state.epoch, "step": self.state.step,
            "workers": self.worker.world_size, "ids": batch.record_id if batch.weight.any() else [],
        }  # fmt: skip
        result = step(self, batch, *more)
        with Path(arguments["out"], f"used-{started}-{self.worker.rank}.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        time.sleep(0.3)
        return result

    TrainingRun._step = recorded
    ray_worker(arguments)


if __name__ == "__main__":
    driver.ray_worker = recording_worker
    driver.train_model(sys.argv[1], sys.argv[2], load_config(None, sys.argv[3:]))

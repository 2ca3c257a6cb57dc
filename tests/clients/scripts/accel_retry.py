"""``azureml.accel.PredictionClient`` while its server is away.

Arguments: ``target``, ``picture``. For each try that failed the client prints "Retrying"; then
comes the outcome.
"""

from __future__ import annotations

from azureml.accel import PredictionClient

from tests.clients.scripts.cases import outcome
from tests.clients.scripts.lines import arguments, tell

ARGUMENTS = arguments()

if __name__ == "__main__":
    host, _, port = ARGUMENTS["target"].rpartition(":")
    client = PredictionClient(host, int(port))
    tell(
        **outcome(lambda: client.score_file(ARGUMENTS["picture"], outputs="output_alias").tolist())
    )

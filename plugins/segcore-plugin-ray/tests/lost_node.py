"""A cluster of two nodes on this machine, one of which is lost in the middle of a job: a program for its own process."""

import sys
from pathlib import Path

from ray.cluster_utils import Cluster
from segcore_plugin_ray import predict_files
from segcore_plugin_ray.manifest import Manifest

SMALL = {"num_cpus": 1, "object_store_memory": 2**27}


def main(model, images, out):
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    lost = [cluster.add_node(**SMALL)]
    cluster.wait_for_nodes()
    record = Manifest.image

    def record_and_lose(self, *arguments):
        record(self, *arguments)
        if lost:
            cluster.remove_node(lost.pop(), allow_graceful=False)
            Path(model).with_name("go").touch()

    Manifest.image = record_and_lose
    code = predict_files(model, [images], out, workers=2, backend="counted", address=cluster.address)
    cluster.shutdown()
    print("lost:", 1 - len(lost))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

import pytest


@pytest.fixture(scope="module")
def cluster():
    """One quiet cluster for the module, which commands join by its address."""
    from crew.hosts.cluster import quiet_cluster

    with quiet_cluster() as address:
        yield address


@pytest.fixture
def hosts_end(cluster):
    """Every host ends with its test."""
    yield
    import ray

    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == "crew":
            ray.kill(ray.get_actor(actor["name"], namespace="crew"))

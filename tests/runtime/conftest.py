from run_fixtures import command, config, dataset, dataset_without_regions, photographs  # noqa: F401

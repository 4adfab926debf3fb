"""Photographs that Debian 12 packages install: scenes, and objects cut out along their outlines.

    apt-get install --no-install-recommends \
        tuxpaint-stamps-default tuxpaint-data mate-backgrounds plasma-workspace-wallpapers lomiri-wallpapers-16.04 \
        lxqt-themes palapeli-data

The packages also contain drawings, and no file says which is which, so the photographs are listed by name. All of them
were inspected by eye. Of two files that mirror each other or show the same photograph, one is listed.
"""

import dataclasses
import fnmatch
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

STAMPS = "tuxpaint-stamps-default"
CUTOUT_FOLDER = "usr/share/tuxpaint/stamps"

# Class -> folder of the stamps -> files, each with at least 70 pixels on the longer side.
CUTOUTS = {
    "hoofed": {
        "animals/mammals": "elephant giraffe hippopotamus pig pig_golden pig_golden2 rhino_black wildboar",
        "animals/mammals/bovines": "bison bull cow cow_white gnu-baby gnu-baby-stand gnu-sitting gnu-stand goat "
        "indian_blackbuck mountaingoat ram sheep sheep_lamb yak zebu",
        "animals/mammals/camel": "camel dromedary",
        "animals/mammals/deer": "caribou deer doe wapiti",
        "animals/mammals/equines": "donkey donkey_eating horse zebra",
    },
    "furred": {
        "animals/mammals": "badger ferret rabbit_little",
        "animals/mammals/apes": "chimp gorilla tamarin_emperor",
        "animals/mammals/aquatic": "otter",
        "animals/mammals/bears": "bear european-bear",
        "animals/mammals/cats": "lion lion-2 tiger tiger_sumatran",
        "animals/mammals/dogs": "dingo dog fox",
        "animals/mammals/rodents": "beaver capybara marmot mouse rabbit rabbit-2 rat squirrel",
        "animals/marsupials": "kangaroo koala wombat",
    },
    "bird": {
        "animals/birds": "adelaide-rosella albino_peahen blackbird chicken_profile crow crowned_crane cuckoo drake "
        "duck gander guineafowl helmeted_guineafowl hen heron_greatblue heron_greatblue_flying lark little-penguin "
        "magellanic_penguin magpie nandou ostrich owl peacock pelican penguin pigeon pink_flamingo quetzal "
        "rainbow-lorikeet rooster seagull silver-gull tucan turkey vulture",
    },
    "aquatic": {
        "animals/fish": "bluegroper butterflyfish clownfish coraltrout dolphinfish lionfish lobster moonwrasse "
        "seahorse shrimp stripedfish",
        "animals/mammals/aquatic": "dolphin orca sea_lion whale",
        "animals/shellfish": "abalone murray-mussel",
    },
    "creeping": {
        "animals/amphibians": "frog frog-1",
        "animals/insects": "Brown_slug Woodlouse fly grasshopper hornet hoverfly mantis xanthia",
        "animals/lizards": "iguana",
    },
    "food": {
        "food/fruit": "Apricot_whole Cherry_Stella Strawberry2 apricot avocado banana cherimoya grapes kiwi lemon "
        "mandarine orange_seville pineapple sliced_orange",
        "food/nuts": "almond pecan walnut",
        "food/spices": "ginger",
        "food/vegetables": "broccoli chilepepper corn eggplant onion redlettuce yam yellowpepper",
        "plants/mushrooms": "cep cep-1 cep-2",
        "seasonal/christmas": "Christmas_pudding Mince_Pie Roast_turkey",
    },
    "plant": {
        "plants": "thyme",
        "plants/flowers": "adeenia anemone_red anthoorium appooppanthady bolsom chemparathi daffodil flower1 flower2 "
        "flower3 flower4 flower5 flower6 flower7 flower8 flower9 flower10 iris marigold pigface red-gazania rose "
        "whitestar-petunia yellow-flower",
        "plants/trees": "holly_leaves holm_oak liberia-palm pinecone rambutan tree336",
    },
    "instrument": {
        "hobbies/music/brass": "trumpet",
        "hobbies/music/percussion": "cymbal_crash drum_tomtom_floor drumkit",
        "hobbies/music/string": "cello guitar2 guitar_classical guitar_electric guitar_electric_bass violin",
        "hobbies/music/wind": "bassoon",
    },
    "thing": {
        "hobbies": "binoculars camera_35mm",
        "household": "Lightbulb cylinder garbagecan home_compost_bin kettle key rubberduck toilet wheelie_bin",
        "household/arttools": "highlighter pen_dryerase",
        "household/dishes": "mug pitcher_small teapot",
        "household/dishes/utensils": "nutcracker pepper_grinder",
        "household/tools": "hammer mallet_metal measuring_tape paintbrush_large plyers saw spade toolbox wrench "
        "wrench_adjustable wrench_plumbers",
        "medical": "bandage_adhesive stethoscope",
        "sports": "australian_rules_football basketball cricketball football soccer tennis_ball "
        "tennis_racket trophy_cup",
        "town": "uk_post_box usps_mailbox",
    },
    "vehicle": {
        "household/tools": "cementmixer",
        "military/vehicles": "bradley f22_raptor infantry-stryker ww2_german_gun",
        "vehicles": "garbagetruck",
        "vehicles/auto": "beetle sedan sportscar2 truck",
        "vehicles/construction": "dumper",
        "vehicles/cycle": "pink_tricycle",
        "vehicles/emergency": "firetruck",
        "vehicles/flight": "balloon360",
        "vehicles/flight/planes": "747",
        "vehicles/masstransit": "green_korean_bus",
        "vehicles/race": "indycar",
        "vehicles/ship": "chineseJunk walnutBoat",
    },
}
CLASSES = ("background", *CUTOUTS)

SCIKIT_IMAGE = "scikit-image"
# Package -> (pattern of its files' paths, files). Scenes show no object of the classes at a size that matters.
SCENES = {
    "lomiri-wallpapers-16.04": (
        "usr/share/backgrounds/{}.jpg",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly aitzgorri_by_Aitzol_Berasategi life_by_Aitzol_Berasategi "
        "picosdeeuropa_by_Aitzol_Berasategi sunset_by_Aitzol_Berasategi",
    ),
    "lxqt-themes": (
        "usr/share/lxqt/wallpapers/{}",
        "Valendas.png after-the-rain.jpg beam.png cloud.png fog.jpg this-is-not-windows.jpg",
    ),
    "mate-backgrounds": ("usr/share/backgrounds/mate/nature/{}.jpg", "Blinds Dune GreenMeadow RainDrops Storm Wood"),
    "palapeli-data": ("usr/share/palapeli/collection/{}.jpg", "castle-maintenon cincinnati-bridge"),
    "plasma-workspace-wallpapers": (
        "usr/share/wallpapers/{}/contents/images/2560x1600.jpg",
        "BytheWater ColdRipple DarkestHour FallenLeaf Grey Kite OneStandsOut Path summer_1am",
    ),
    "tuxpaint-data": (
        "usr/share/tuxpaint/templates/{}.jpg",
        "burnt_bark cliff corn_maze lighthouse mossy_bark mossy_log mudstone ocean_splash ocean_waves redwoods_above "
        "rocks spiders_web sun_behind_clouds sun_behind_leaves trees_above trees_at_dusk wool_mill_machine",
    ),
    SCIKIT_IMAGE: ("{}.png", "brick grass gravel"),
}
# Photographs that contain objects, only for training without labels.
OTHERS = {
    "lomiri-wallpapers-16.04": (
        "usr/share/backgrounds/{}.jpg",
        "Picture_0B_by_freespace Picture_1A_by_freespace Wine_by_Jakkub_Mede free_by_Peter_Nerlich "
        "friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich seeding_by_Clements_Engelhardt",
    ),
    "lxqt-themes": (
        "usr/share/lxqt/wallpapers/{}",
        "Butterfly-Kenneth-Wimer.jpg appleflower.png butterfly.png drop.png flowers.png",
    ),
    "mate-backgrounds": (
        "usr/share/backgrounds/mate/nature/{}.jpg",
        "Aqua FreshFlower Garden LadyBird TwoWings YellowFlower",
    ),
    "palapeli-data": (
        "usr/share/palapeli/collection/{}.jpg",
        "citrus-fruits european-honey-bee panther-chameleon-female",
    ),
    "plasma-workspace-wallpapers": (
        "usr/share/wallpapers/{}/contents/images/2560x1600.jpg",
        "ColorfulCups EveningGlow",
    ),
    "tuxpaint-data": ("usr/share/tuxpaint/templates/{}.jpg", "jellyfish sheep"),
    SCIKIT_IMAGE: ("{}", "astronaut.png camera.png chelsea.png coffee.png coins.png motorcycle_left.png rocket.jpg"),
}
PACKAGES = (STAMPS, *(package for package in SCENES if package != SCIKIT_IMAGE))


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph that a package has installed.

    Attributes:
      path: the file's path.
      name: a name that is unique among photographs of its kind.
      kind: the class of an object, "scene" or "other".
      package: the package that contains the file.
      folder: the folder below which the package's files are; the patterns of a copyright file match below it.
    """

    path: Path
    name: str
    kind: str
    package: str
    folder: Path


def cutouts(root: Path = Path("/")) -> list[Photograph]:
    """Returns the objects cut out along their outlines, as RGBA files.

    Raises:
      FileNotFoundError: a package is missing.
    """
    return _present(
        Photograph(root / CUTOUT_FOLDER / folder / f"{name}.png", name, kind, STAMPS, root)
        for kind, folders in CUTOUTS.items()
        for folder, names in folders.items()
        for name in names.split()
    )


def scenes(root: Path = Path("/")) -> list[Photograph]:
    """Returns the photographs on which objects are pasted.

    Raises:
      FileNotFoundError: a package is missing.
    """
    return _listed(SCENES, "scene", root)


def others(root: Path = Path("/")) -> list[Photograph]:
    """Returns the photographs that contain objects.

    Raises:
      FileNotFoundError: a package is missing.
    """
    return _listed(OTHERS, "other", root)


def _listed(packages: dict[str, tuple[str, str]], kind: str, root: Path) -> list[Photograph]:
    skimage = Path(str(resources.files("skimage.data")))
    return _present(
        Photograph(folder / pattern.format(name), name.split(".")[0], kind, package, folder)
        for package, (pattern, names) in packages.items()
        for folder in [skimage if package == SCIKIT_IMAGE else root]
        for name in names.split()
    )


def _present(photographs: Iterator[Photograph]) -> list[Photograph]:
    photographs = list(photographs)
    for one in photographs:
        if not one.path.exists():
            raise FileNotFoundError(
                f"{one.path} is missing; install the package {one.package}: "
                f"apt-get install --no-install-recommends {' '.join(PACKAGES)}"
            )
    return photographs


def licence(photograph: Photograph) -> str:
    """Returns the licence that the copyright file of the photograph's package states for it."""
    if photograph.package == SCIKIT_IMAGE:
        return "see README.txt next to it and scikit-image's LICENSE.txt"
    file = photograph.folder / "usr/share/doc" / photograph.package / "copyright"
    if not file.exists():
        return f"unknown, {file} is missing"
    stated = "not stated"
    for stanza in re.split(r"\n\s*\n", file.read_text()):
        patterns = re.search(r"^Files:((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        name = re.search(r"^License:[ \t]*(.+)", stanza, re.MULTILINE)
        # The last matching stanza applies. Patterns are paths in the package's source, which end like the file's path.
        if patterns and name and any(_matches(photograph.path, pattern) for pattern in patterns[1].split()):
            stated = name[1].strip()
    return stated


def _matches(path: Path, pattern: str) -> bool:
    if "*" not in pattern:
        return path.name == pattern.rsplit("/", 1)[-1]
    return pattern == "*" or fnmatch.fnmatch(str(path), f"*/{pattern}")

"""Two robots side by side: the films, their pictures, and every position of the controls."""

import numpy as np
import pytest

from labkit.explorers import robot_films as rf
from labkit.explorers.drawing.frame import frames, picture_height
from labkit.explorers.drawing.png import decode
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Cells, Line, Photo
from labkit.explorers.svg import render
from labkit.explorers.two_robots import ACTIONS, SAID, State, controls, explorer, scene
from labkit.vla.env import ACTIONS as NAMES
from labkit.vla.env import FLAVOURS, Episode, pictures, tile_images
from labkit.vla.rollout import Rollout, departure, held_out


@pytest.fixture(scope="module")
def films():
    return rf.stored()


def test_what_the_light_module_repeats_of_the_world_is_right():
    assert rf.FLAVOURS == FLAVOURS
    assert [word for word, _ in ACTIONS] == list(NAMES)
    assert set(SAID) == set(rf.ENDS)


def test_every_film_holds_a_real_episode(films):
    """The world itself, given the stored actions, comes through the stored rooms."""
    sentences = [film.sentence for film in films.films[rf.FLOAT]]
    kinds = {"go": "go to", "pick": "pick up", "put": "put next to"}
    for i, sentence in enumerate(sentences):
        mission = kinds[sentence.split()[0]]
        first = films.films[rf.FLOAT][i].rooms[0]
        seeds = dict.fromkeys(seed for _, seed in held_out(rf.AMONG))
        seed = next(s for s in seeds if (Episode(mission, s).tiles() == first).all())
        for width in rf.WIDTHS:
            film, episode = films.films[width][i], Episode(mission, seed)
            for action, room in zip(film.actions, film.rooms[1:], strict=True):
                episode.step(int(action))
                assert np.array_equal(episode.tiles(), room)
            assert episode.success == (film.end == "success")


def test_a_loop_ends_in_a_room_that_was_seen_before(films):
    for all_films in films.films.values():
        for film in all_films:
            seen = {room.tobytes() for room in film.rooms[:-1]}
            assert len(seen) == len(film)
            assert (film.end == "loop") == (film.rooms[-1].tobytes() in seen)


def test_the_first_other_action_is_that_of_the_rollouts(films):
    for i, one in enumerate(films.films[rf.FLOAT]):
        for width in rf.WIDTHS:
            other = films.films[width][i]
            pair = (Rollout("go to", 0, "", f.rooms, f.actions, f.end) for f in (one, other))
            assert rf.first_difference(one, other) == departure(*pair)


@pytest.mark.parametrize("view", rf.VIEWS)
def test_a_frame_is_what_minigrid_draws(films, view):
    room = films.films[rf.FLOAT][1].rooms[3]
    drawn = decode(rf.frame(room.tobytes(), view))[..., :3]
    if view == "camera":
        assert np.array_equal(drawn, pictures(room[None])[0])
    else:
        tile = drawn.reshape(8, 32, 8, 32, 3).transpose(0, 2, 1, 3, 4)
        robot = room[room >= FLAVOURS][0]
        (place,) = np.argwhere(room >= FLAVOURS)
        assert np.array_equal(tile[tuple(place)], rf._arrays()["drawn"][robot])
    with pytest.raises(ValueError, match="'film'"):
        rf.frame(bytes(64), "film")


def test_the_small_drawings_are_the_cameras_tiles():
    assert np.array_equal(rf._arrays()["camera"], tile_images())


def test_the_robot_is_where_the_room_says(films):
    film = films.films[3][1]
    for step, (x, y) in enumerate(film.places(99)):
        assert film.rooms[step][y, x] >= FLAVOURS
    assert len(film.places(2)) == 3 and np.array_equal(film.at(99), film.rooms[-1])


def test_every_position_shows_the_rooms_of_both_and_where_they_part(films):
    heights = set()
    for i in range(rf.COUNT):
        moved = controls(films) | {"step": controls(films)["step"]}
        moved["step"].max = films.last(i)
        del moved["episode"], moved["view"]
        for state, picture in sweep(lambda s: scene(s, films), State(episode=i), moved):
            heights.add(picture_height(picture))
            left, right = (films.films[b][i] for b in (rf.FLOAT, state.bits))
            shown = [photo.png for photo in picture.marks(Photo)]
            assert shown == [rf.frame(f.at(state.step).tobytes()) for f in (left, right)]
            parting = rf.first_difference(left, right)
            said = picture.readout("first other action").value
            assert said == ("none" if parting is None else f"step {parting + 1}")
            name = rf.width_name(state.bits)
            assert picture.readout(f"robot of {name}").value == SAID[right.end][0]
            strong = [m for m in picture.marks(Cells) if m.strong]
            assert len(strong) <= 2
            if strong:
                assert parting is not None and strong[0].labels != strong[1].labels
    # The page must not jump while it plays.
    assert len(heights) == 1


def test_cells_of_the_room_are_square(films):
    left = frames(scene(State(), films))[0]
    across, up = left.px(1) - left.px(0), left.py(0) - left.py(1)
    assert across == pytest.approx(up, rel=0.005)


def test_the_way_ends_at_the_robot(films):
    picture = scene(State(3, 6, 1), films)
    way = next(m for m in picture.marks(Line) if m.role == "float")
    (place,) = np.argwhere(films.films[rf.FLOAT][1].rooms[6] >= FLAVOURS)
    assert (way.x[-1], way.y[-1]) == (place[1] + 0.5, 7.5 - place[0])


def test_the_camera_gives_another_picture_than_the_drawing(films):
    assert render(scene(State(), films)) != render(scene(State(view="camera"), films))


def test_the_step_goes_as_far_as_the_longest_film_and_play_follows(films):
    panel = explorer(from_file=True, episode=1)
    assert panel.controls["step"].max == films.last(1)
    panel.set(episode=0)
    assert panel.controls["step"].max == films.last(0) and not panel.error
    assert panel.play.interval > 0
    linked = {(link.source[1], link.target[1]) for link in panel._links}
    assert linked == {("max", "max"), ("value", "value")}


@pytest.mark.parametrize(("mission", "parting"), [(5, 4)])
def test_what_the_notebooks_say(films, mission, parting):
    """Mission 6: as float at 4 bits, in circles at 3."""
    ends = {width: films.films[width][mission].end for width in rf.WIDTHS}
    assert [ends[w] for w in (rf.FLOAT, 8, 4, 3, 2)] == ["success"] * 3 + ["loop"] * 2
    one = films.films[rf.FLOAT][mission]
    assert rf.first_difference(one, films.films[4][mission]) is None
    assert rf.first_difference(one, films.films[3][mission]) == parting


def test_what_notebook_00_says_of_the_twelve(films):
    ends = {width: [film.end for film in films.films[width]] for width in (4, 3)}
    assert ends[3] == ["loop"] * 12
    assert [i for i, end in enumerate(ends[4]) if end != "success"] == [8]

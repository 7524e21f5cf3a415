"""Requests in words: each of these sentences is read exactly so, or refused with its words."""

import re
from dataclasses import asdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labkit.requirement import NotUnderstood, Requirement, UnitMissing, understand

LIMITS = ("max_bytes", "max_loss", "min_quality", "max_seconds", "max_time_share", "min_ratio")
LIMITS += ("bits", "method")


def limits(request):
    found = asdict(understand(request))
    return {name: found[name] for name in LIMITS if found[name] is not None}


READ = {
    # The issue's own two.
    "under 6 MB, at most 3 points worse, 200 ms": {
        "max_bytes": 6_000_000,
        "max_loss": 0.03,
        "max_seconds": 0.2,
    },
    "模型小于6MB,精度损失不超过3%": {"max_bytes": 6_000_000, "max_loss": 0.03},
    # Sizes.
    "6MB": {"max_bytes": 6_000_000},
    "at most 6 megabytes": {"max_bytes": 6_000_000},
    "no more than six megabytes": {"max_bytes": 6_000_000},
    "must not exceed 6,000,000 bytes": {"max_bytes": 6_000_000},
    "fits in 512 KiB": {"max_bytes": 524_288},
    "size = 1.5 MB": {"max_bytes": 1_500_000},
    "UNDER 1e6 BYTES": {"max_bytes": 1_000_000},
    "five hundred kilobytes": {"max_bytes": 500_000},
    "I want to shrink the model to 6 MB": {"max_bytes": 6_000_000},
    "小于６ＭＢ": {"max_bytes": 6_000_000},
    "模型不超过6兆": {"max_bytes": 6_000_000},
    "不超过六百五十万字节": {"max_bytes": 6_500_000},
    "请把模型压缩到400KB以内": {"max_bytes": 400_000},
    "不要超过6MB": {"max_bytes": 6_000_000},
    "小于等于6MB": {"max_bytes": 6_000_000},
    # Sizes as shares.
    "4x smaller": {"min_ratio": 4},
    "four times smaller": {"min_ratio": 4},
    "half the size": {"min_ratio": 2},
    "a quarter of the memory": {"min_ratio": 4},
    "halve the size": {"min_ratio": 2},
    "75 % smaller": {"min_ratio": 4},
    "reduce the size by 75 %": {"min_ratio": 4},
    "reduce the size to 25 %": {"min_ratio": 4},
    "a 75 % reduction in size": {"min_ratio": 4},
    "I want to reduce the size by 75 %": {"min_ratio": 4},
    "at most 1/4 of the original size": {"min_ratio": 4},
    "a compression ratio of at least 4": {"min_ratio": 4},
    "compression ratio 4:1": {"min_ratio": 4},
    "体积减半": {"min_ratio": 2},
    "把模型缩小75%": {"min_ratio": 4},
    "把模型缩小到25%": {"min_ratio": 4},
    "压缩到原来的四分之一": {"min_ratio": 4},
    "压缩4倍": {"min_ratio": 4},
    "体积降至25%": {"min_ratio": 4},
    # Times.
    "<200ms": {"max_seconds": 0.2},
    "within half a second": {"max_seconds": 0.5},
    "under a second": {"max_seconds": 1},
    "one hundred and fifty ms per step": {"max_seconds": 0.15},
    "no slower than 200 milliseconds": {"max_seconds": 0.2},
    "at least 10 frames per second": {"max_seconds": 0.1},
    "延迟小于200毫秒": {"max_seconds": 0.2},
    "延迟不超过一百五毫秒": {"max_seconds": 0.15},
    "两百毫秒以内": {"max_seconds": 0.2},
    "延迟半秒以内": {"max_seconds": 0.5},
    "10次/秒": {"max_seconds": 0.1},
    # Times as shares.
    "85% less time": {"max_time_share": 0.15},
    "twice as fast": {"max_time_share": 0.5},
    "four times faster": {"max_time_share": 0.25},
    "double the speed": {"max_time_share": 0.5},
    "half the latency": {"max_time_share": 0.5},
    "at most 15 % of the original time": {"max_time_share": 0.15},
    "推理时间减少85%": {"max_time_share": 0.15},
    "时间是原来的15%": {"max_time_share": 0.15},
    "速度快一倍": {"max_time_share": 0.5},
    "at most 50 % of the compute": {"max_time_share": 0.5},
    # Quality.
    "at most 3 % accuracy loss": {"max_loss": 0.03},
    "lose no more than three points": {"max_loss": 0.03},
    "3 points worse than float": {"max_loss": 0.03},
    "accuracy may drop by at most 3 %": {"max_loss": 0.03},
    "without losing more than 0.5 points": {"max_loss": 0.005},
    "within 3 points of the original": {"max_loss": 0.03},
    "最多损失3个百分点": {"max_loss": 0.03},
    "精度损失百分之三以内": {"max_loss": 0.03},
    "精度最多下降3%": {"max_loss": 0.03},
    "千分之五的精度损失": {"max_loss": 0.005},
    "accuracy at least 95 %": {"min_quality": 0.95},
    "success ≥ 97%": {"min_quality": 0.97},
    "准确率不低于百分之九十五": {"min_quality": 0.95},
    "成功率97%以上": {"min_quality": 0.97},
    "accuracy within 3 points": {"max_loss": 0.03},
    "keep the accuracy loss to 3 %": {"max_loss": 0.03},
    "精度损失为3%": {"max_loss": 0.03},
    # Widths and methods.
    "8 bits": {"bits": 8},
    "use int8 static quantization": {"bits": 8, "method": "static"},
    "4位量化": {"bits": 4},
    "量化感知训练，3位": {"bits": 3, "method": "qat"},
    # Several at once, with and without commas.
    "6 MB 200 ms 3 points worse": {"max_bytes": 6_000_000, "max_seconds": 0.2, "max_loss": 0.03},
    "<6MB<200ms": {"max_bytes": 6_000_000, "max_seconds": 0.2},
    # A full-width comma and a full stop end a limit.
    "位宽8，200毫秒以内": {"bits": 8, "max_seconds": 0.2},
    "under 6 MB.200 ms": {"max_bytes": 6_000_000, "max_seconds": 0.2},
    "6兆.200毫秒": {"max_bytes": 6_000_000, "max_seconds": 0.2},
    "3% accuracy loss 200ms latency 6MB size": {
        "max_loss": 0.03,
        "max_seconds": 0.2,
        "max_bytes": 6_000_000,
    },
    "模型小于6MB精度损失不超过3%延迟不超过200ms": {
        "max_bytes": 6_000_000,
        "max_loss": 0.03,
        "max_seconds": 0.2,
    },
    "four times smaller and twice as fast": {"min_ratio": 4, "max_time_share": 0.5},
    "under 6 MB without losing more than 3 points": {"max_bytes": 6_000_000, "max_loss": 0.03},
    "75% smaller, 60% less time, at most 3 points worse": {
        "min_ratio": 4,
        "max_time_share": 0.4,
        "max_loss": 0.03,
    },
    "Could you quantize my robot to under 400 kB, please?": {"max_bytes": 400_000},
    "模型 under 6MB, 损失 at most 3%": {"max_bytes": 6_000_000, "max_loss": 0.03},
}


@pytest.mark.parametrize("sentence", READ)
def test_a_sentence_is_read_exactly_so(sentence):
    assert limits(sentence) == pytest.approx(READ[sentence])


# Sentence → what its refusal must quote.
REFUSED = {
    "not under 6 MB": "not under 6 MB",
    "not exactly 6 MB": "not",
    "at least 6 MB": "at least 6 MB",
    "more than 200 ms": "more than 200 ms",
    "at least 3 points worse": "at least 3 points worse",
    "at most 95 % accuracy": "at most 95 % accuracy",
    "no worse than 95 %": "no worse than 95 %",
    "accuracy 95 %": "accuracy 95 %",
    "keep at least 95 % of the accuracy": "95 % of the accuracy",
    "reduce accuracy to 92 %": "reduce accuracy to 92 %",
    "6 MB or 200 ms": "or",
    "unless it is under 6 MB": "unless",
    "about 6 MB": "about",
    "never more than 6 MB": "never",
    "between 5 and 6 MB": "between",
    "40 MB to 6 MB": "40 MB to 6 MB",
    "5-6 MB": "-6 MB",
    "-6 MB": "-6 MB",
    "6 MB ± 1 MB": "± 1 MB",
    "0 MB": "0 MB",
    "0 points worse": "0 points",
    "at most 60 % worse": "60 %",
    "6 MB smaller": "6 MB smaller",
    "save at most 6 MB": "save at most 6 MB",
    "at most 75 % smaller": "at most 75 % smaller",
    "100 % smaller": "100 %",
    "60 % faster": "60 % faster",
    "at most 10 fps": "at most 10 fps",
    "half the speed": "half the speed",
    "half the accuracy": "half the accuracy",
    "0.5x smaller": "0.5x",
    "6,5 MB": "6,5",
    "1.2.3 MB": "1.2.3",
    "1e999 bytes": "1e999",
    "NaN MB": "NaN",
    "∞ ms": "∞",
    "½ the size": "½",
    "6 TB": "TB",
    "6² MB": "²",
    "make it fast": "fast",
    "as small as possible": "possible",
    "reduce the size, 200 ms": "reduce the size",
    "size and latency under 6 MB": "size",
    "6 MB of latency": "6 MB of latency",
    "200 ms of accuracy loss": "200 ms of accuracy loss",
    "at most 6 MB or more": "or more",
    "4 bits and 8 bits": '"4 bits" and "8 bits" contradict',
    "static and dynamic": '"static" and "dynamic" contradict',
    "at most 4 bits": "at most 4 bits",
    "16 bits": "16 bits",
    "without static": "without",
    "static memory under 6 MB": "static memory",
    "不小于6MB": "不小于6MB",
    "不是小于6MB": "不",
    "除非小于6MB": "除非",
    "大约6MB": "大约",
    "6MB左右": "左右",
    "6MB或者200ms": "或者",
    "减少6MB": "减少6MB",
    "减少不超过6MB": "减少不超过6MB",
    "损失一点精度": "一点",
    "快2倍": "快",
    "无损压缩": "无损",
    "精度损失至少3%": "精度损失至少3%",
    "压缩率75%": "压缩率75%",
    "hello": "hello",
    "🙂 6 MB": "🙂",
    "": "nothing is asked",
    "  \n": "nothing is asked",
    "please": "nothing is asked",
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_sentence_that_is_not_clear_is_refused_with_its_words(sentence):
    with pytest.raises(NotUnderstood, match=re.escape(REFUSED[sentence])):
        understand(sentence)


# Words of a request → what its refusal must say to do.
MISREAD = {
    # One amount in two numbers is not two limits.
    "under 1 min 30 s": 'write "90 seconds" if it is one amount',
    "1 minute and 30 seconds": 'write "90 seconds" if it is one amount',
    "1分钟30秒": 'write "90 seconds" if it is one amount',
    "1 GB 500 MB": 'write "1500000000 bytes" if it is one amount',
    # What stands in front of < is the smaller one.
    "6 MB < size": "write the number last",
    "5 MB < size < 6 MB": "write the number last",
    "200 ms is less than the latency": "write the number last",
    "95 % > accuracy": "write the number last",
    "6MB小于模型": "write the number last",
    # Five or six.
    "模型小于五六MB": '"五六" is no number that is clear',
    # A share of a share.
    "size at most 50 % of 50 % of the original size": "write one number",
    "half of half the size": "write one number",
    # What is left, not what is lost.
    "success rate degraded to 40 %": "accuracy at least 95 %",
    "成功率下跌到40%": "accuracy at least 95 %",
    "精度损失到40%": "accuracy at least 95 %",
    "success rate of 40 points": "40 points lost, or left?",
    # No numbers at all.
    "under " + "hundred " * 160 + "bytes": "hundred of what",
    "模型小于" + "万" * 90 + "字节": "is no number that is clear",
    f"at most {'9' * 400}/3 MB": "is no number that can be meant",
    "最多 10 分": "write 分钟 for minutes, 个百分点 for points",
    "a second model under 6 MB": "write 1 s for the time",
    "a second limit of 6 MB": "write 1 s for the time",
}


@pytest.mark.parametrize("sentence", MISREAD)
def test_what_would_be_misread_is_refused_and_says_what_to_write(sentence):
    with pytest.raises((NotUnderstood, UnitMissing), match=re.escape(MISREAD[sentence])):
        understand(sentence)


@pytest.mark.parametrize(
    ("sentence", "asked"),
    [
        ("under 6", "6 of what"),
        ("accuracy at least 0.95", "accuracy at least 95 % if a share of 1 is meant"),
        ("accuracy at least 95", "accuracy at least 95 %"),
        ("accuracy loss 0.03", "3 points if a share of 1 is meant, else 0.03 points"),
        ("latency under 200", "200 ms"),
        ("accuracy loss below 3", "3 points"),
        ("size 6, 200 ms", "6 MB"),
        ("under 6 M", '"6 M" is not clear'),
        ("6 Mb", '"6 Mb" is not clear'),
        ("3 %", "3 % of what"),
        ("4x", "4x what"),
        ("half", "half of what"),
        ("模型小于6M", '"6M" is not clear'),
        ("模型小于六", "六 of what"),
        ("百分之三", "百分之三 of what"),
        ("one and a half seconds", "one of what"),
    ],
)
def test_a_number_without_a_unit_is_asked_back(sentence, asked):
    with pytest.raises(UnitMissing, match=re.escape(asked)):
        understand(sentence)


def test_both_refusals_are_value_errors():
    assert issubclass(UnitMissing, ValueError) and issubclass(NotUnderstood, ValueError)


def test_of_two_limits_the_tighter_counts_and_is_said_to():
    found = understand("under 6 MB, under 4 MB, accuracy at least 90 %, at least 95 % success")
    assert (found.max_bytes, found.min_quality) == (4_000_000, 0.95)
    assert all("tightest of 2" in line for line in found.understood)


def test_the_same_limit_twice_is_one():
    assert understand("6 MB, 6 MB").understood == understand("6 MB").understood


def test_chinese_is_answered_in_chinese():
    found = understand("模型小于6MB")
    assert found.language == "zh"
    assert found.understood == ('"模型小于6MB": 模型最多占 6 MB(6,000,000 字节)',)


def test_every_limit_has_its_line_with_the_words_it_was_read_from():
    found = understand("under 6 MB, at most 3 % worse and twice as fast")
    assert [line.split('"')[1] for line in found.understood] == [
        "under 6 MB",
        "at most 3 % worse",
        "twice as fast",
    ]


def test_percent_of_quality_is_said_to_be_points():
    (line,) = understand("at most 3 % worse").understood
    assert "3 points" in line and "95 % may become 92 %" in line


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({"size": "6 MB"}, {"max_bytes": 6_000_000}),
        ({"max_bytes": 6e6}, {"max_bytes": 6_000_000}),
        ({"max_bytes": 1_234_567_890_123}, {"max_bytes": 1_234_567_890_123}),
        ({"max_loss": "3 %"}, {"max_loss": 0.03}),
        ({"memory_mb": 6}, {"max_bytes": 6_000_000}),
        ({"max_latency_ms": 200}, {"max_seconds": 0.2}),
        ({"accuracy_loss": "3 %"}, {"max_loss": 0.03}),
        ({"max_loss": 0.03}, {"max_loss": 0.03}),
        ({"min_accuracy": "95 %"}, {"min_quality": 0.95}),
        ({"min_quality": 0.95}, {"min_quality": 0.95}),
        ({"max_time_share": 0.15}, {"max_time_share": 0.15}),
        ({"min_ratio": 4}, {"min_ratio": 4}),
        ({"speed": "2x"}, {"max_time_share": 0.5}),
        # The document's own keys.
        ({"bit_width": 8, "quantization_method": "static"}, {"bits": 8, "method": "static"}),
        ({"大小": "6MB", "精度损失": "3%"}, {"max_bytes": 6_000_000, "max_loss": 0.03}),
        ({"size": None, "latency": "200 ms"}, {"max_seconds": 0.2}),
        ({}, {}),
        (None, {}),
    ],
)
def test_a_dict_is_read_exactly_so(request_, wanted):
    assert limits(request_) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("request_", "quoted"),
    [
        ({"size": 6}, "size 6"),
        ({"memory_limit": 100}, "memory limit 100"),
        ({"compute_limit": 50}, "compute limit 50"),
        ({"colour": "red"}, "colour red"),
        ({"size": True}, "size"),
        ({"size": ["6 MB"]}, "6 MB"),
        ({5: "6 MB"}, "6 MB"),
        ({"max_bytes": -1}, "-1"),
        ({"max_bytes": float("nan")}, "nan"),
        ({"max_seconds": float("inf")}, "inf"),
        ({"max_loss": 3}, "300 %"),
        ({"min_ratio": 0.5}, "0.5"),
        ({"max_bytes": 0}, "max_bytes = 0 is no limit"),
        ({"max_loss": 0}, "no measurement can promise a loss of 0"),
        ({"max_bytes": 0, "latency_ms": -5}, "latency_ms = -5 is no limit"),
        ({"min_quality": 95}, "min_quality = 95: "),
        ({"max_loss": 1e-20}, "max_loss = 1e-20: "),
        ({"min_quality": 1e-20}, "min_quality = 1e-20: "),
        ({"max_bytes": 10**400}, "max_bytes is too large a number"),
        ({"max_bytes": "6 MB"}, "max_bytes takes a plain number, not '6 MB'"),
        ({"latency_ms": "200"}, '{"latency": "200 ms"}'),
        ({"bits": "8"}, "bits takes a plain number"),
    ],
)
def test_a_dict_that_is_not_clear_is_refused(request_, quoted):
    with pytest.raises(ValueError, match=re.escape(quoted)):
        understand(request_)


def test_every_entry_that_is_not_clear_is_named():
    with pytest.raises(NotUnderstood, match=r"max_bytes = 0.*latency 200"):
        understand({"max_bytes": 0, "latency": 200})


def test_entries_that_only_lack_units_are_asked_back():
    with pytest.raises(UnitMissing, match=r"size 6.*latency 200"):
        understand({"size": 6, "latency": 200})


@pytest.mark.parametrize("request_", [5, ["6 MB"], b"6 MB", 6.0])
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(ValueError, match="request must be"):
        understand(request_)


def test_a_requirement_is_returned_as_it_is():
    wish = Requirement(max_bytes=5)
    assert understand(wish) is wish


def test_limits_of_size_time_and_loss_combine_their_two_ways():
    wish = Requirement(
        max_bytes=30, min_ratio=4, max_seconds=1, max_time_share=0.2, max_loss=0.05, min_quality=0.9
    )
    assert wish.bytes_limit(100) == 25
    assert wish.seconds_limit(10) == 1
    assert wish.loss_limit(0.92) == pytest.approx(0.02)
    assert wish.loss_limit(0.85) == pytest.approx(-0.05)
    nothing = Requirement()
    assert (nothing.bytes_limit(1), nothing.seconds_limit(1), nothing.loss_limit(1)) == (None,) * 3


# Nothing but ValueError, and no number left out -------------------------------------------------

NUMBERS = re.compile(r"\d+(?:\.\d+)?")
WORDS = """under|at most|not|no more than|at least|6|200|3|0.5|1e3|6 MB|200 ms|3 %|3 points|4x|half
twice|worse|smaller|faster|less|time|size|accuracy|loss|the|model|to|by|of|reduce|and|or|original
,|-|/|:|.|(|小于|不|超过|精度|损失|百分之三|三|兆|毫秒|到|的|原来的|四分之一|以内|至少|static|8 bits
compute|快一倍|减半|½|🙂|²""".replace("\n", "|").split("|")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9), st.sampled_from(["", " "]))
@example(["reduce", "6 MB", "to", "half"], " ")
def test_any_words_are_read_or_refused_and_no_number_is_left_out(words, space):
    sentence = space.join(words)
    try:
        found = understand(sentence)
    except (NotUnderstood, UnitMissing) as error:
        assert all(number in str(error) for number in NUMBERS.findall(sentence))
    else:
        said = " ".join(line.split('": ')[0] for line in found.understood)
        assert set(NUMBERS.findall(sentence)) <= set(NUMBERS.findall(said)) | tightened(found)


def tightened(found):
    """Where the tighter of several limits counts, the line says so instead of quoting them all."""
    several = any("tightest of" in x or "最严" in x for x in found.understood)
    return set(NUMBERS.findall("6 200 3 0.5 1 8 4 1e3")) | {"1e3", "3"} if several else set()


ENGLISH = [sentence for sentence in READ if sentence.isascii() and " " in sentence]
CHINESE = [sentence for sentence in READ if not re.search("[a-zA-Z] ", sentence)]


@pytest.mark.parametrize("sentence", ENGLISH)
def test_a_not_anywhere_is_never_overlooked(sentence):
    words = sentence.split()
    for place in range(len(words)):
        turned = " ".join([*words[:place], "not", *words[place:]])
        with pytest.raises(ValueError, match="not"):
            understand(turned)


@pytest.mark.parametrize("sentence", CHINESE)
def test_a_chinese_not_anywhere_is_never_overlooked(sentence):
    for place in range(len(sentence)):
        with pytest.raises(ValueError, match="不"):
            understand(f"{sentence[:place]}不{sentence[place:]}")


@pytest.mark.parametrize("sentence", ENGLISH)
def test_no_word_of_a_sentence_is_overlooked(sentence):
    words = sentence.split()
    for place in range(len(words) + 1):
        with pytest.raises(NotUnderstood, match="grue"):
            understand(" ".join([*words[:place], "grue", *words[place:]]))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        found = understand(text)
    except (NotUnderstood, UnitMissing):
        return
    assert found.understood


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*"零一二两十百千万半点分之0123456789/:.,e", "hundred ", "million "]))
)
def test_any_number_is_read_or_refused(signs):
    try:
        found = understand(f"size under {''.join(signs)} bytes")
    except (NotUnderstood, UnitMissing):
        return
    assert found.understood


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["max_bytes", "latency_ms", "bits", "size"]), st.integers(0, 400))
def test_any_number_of_a_dict_is_read_or_refused(key, zeros):
    try:
        found = understand({key: 10**zeros})
    except (NotUnderstood, UnitMissing):
        return
    assert found.understood


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from(["kB", "MB"]), st.sampled_from(["under", "不超过"]))
def test_any_size_is_read_to_the_byte(number, unit, bound):
    factor = {"kB": 1000, "MB": 10**6}[unit]
    assert limits(f"{bound} {number} {unit}") == {"max_bytes": number * factor}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9999))
def test_chinese_numerals_are_read(number):
    assert limits(f"延迟小于{chinese(number)}毫秒") == pytest.approx({"max_seconds": number / 1000})


def chinese(number):
    signs, places = "零一二三四五六七八九", ("", "十", "百", "千")
    digits = str(number)
    text = ""
    for i, digit in enumerate(digits):
        place = places[len(digits) - 1 - i]
        if digit != "0":
            text += signs[int(digit)] + place
        elif not text.endswith("零") and int(digits[i:]) > 0:
            text += "零"
    return text

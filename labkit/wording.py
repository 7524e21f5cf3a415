"""What words mean in a request, in English and Chinese: a short list, and nothing outside it.

A request is read word by word. Each word, or phrase, belongs to one class below, is a quantity, or
is not understood. Words that turn a meaning round (not, unless, or, about, bigger) stand in no
class on purpose: a request with one of them is refused, not misread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labkit.quantities import Quantity, read_quantity

WORDS: dict[str, str] = {
    # At most so much.
    "upper": """under|below|beneath|less than|fewer than|smaller than|lower than|lighter than|
        faster than|quicker than|shorter than|at most|at the most|no more than|not more than|
        no larger than|not larger than|no bigger than|not bigger than|no greater than|
        not greater than|no slower than|not slower than|no longer than|not longer than|
        no higher than|not higher than|up to|within|inside|max|max.|maximum|maximum of|maximal|
        not exceed|not exceeding|not to exceed|does not exceed|doesn't exceed|do not exceed|
        don't exceed|must not exceed|mustn't exceed|should not exceed|shouldn't exceed|
        shall not exceed|may not exceed|can not exceed|cannot exceed|can't exceed|never exceed|
        without exceeding|not over|not above|not beyond|<|<=|=<|≤|⩽|fit in|fits in|fit into|
        fits into|fit within|fits within|fit inside|fits inside|fit|fits|limit|limit of|limits|
        upper limit|limited to|cap|capped at|ceiling|budget|budget of|or less|or smaller|or fewer|
        or below|or under|or faster|or lower|tops|
        小于|小于等于|小于或等于|低于|不超过|不大于|不高于|不多于|不长于|不慢于|不得超过|不能超过|不可超过|不要超过|
        不应超过|不许超过|不会超过|不得大于|不能大于|不要大于|不得高于|不能高于|不可大于|至多|最多|
        最大|最高|最长|少于|短于|快于|轻于|以内|以下|之内|之下|内|不到|上限|控制在|限制在|限制为|
        限制|限定|限定在|别超过|小於|低於|不超過|不大於|少於|以內|內""",
    # At least so much.
    "lower": """over|above|more than|greater than|larger than|bigger than|higher than|longer than|
        slower than|at least|at the least|no less than|not less than|no fewer than|
        not fewer than|no smaller than|not smaller than|no lower than|not lower than|not under|
        not below|>|>=|=>|≥|⩾|minimum|minimum of|min|min.|minimal|lower limit|or more|or better|
        or higher|or larger|or above|or over|exceed|exceeds|exceeding|beyond|
        至少|大于等于|大于或等于|不少于|不低于|不小于|大于|多于|超过|高于|以上|之上|起码|最少|最低|最小|不得低于|不能低于|
        不可低于|不要低于|不得少于|不能少于|不得小于|不能小于|长于|慢于|达到|不少於|不低於|大於|
        超過|高於|至少要""",
    "less": "less|fewer|lower|更少|更低|少",
    "smaller": "smaller|lighter|as small|更小|变小|小",
    # Fast and quick: of speeds, more is better, and "60 % faster" may be read in two ways.
    "faster": "faster|quicker|as fast|as quick|as quickly|speedup|speed-up|speed up|speeds up|"
    "sped up|加速|提速",
    "cut": """reduce|reduces|reduced|reducing|reduction|cut|cuts|cutting|decrease|decreases|
        decreased|save|saves|saving|savings|saved|drop|drops|dropped|dropping|fall|falls|
        decline|declines|bring|减少|减小|减低|降低|缩减|节省|节约|减|降|省|下降|掉|減少|節省|降至|
        降到""",
    "shrink": "shrink|shrinks|shrunk|shrinking|compress|compresses|compressed|compressing|"
    "squeeze|squeezed|缩小|压缩|縮小|壓縮|压",
    "shorten": "shorten|shortened|缩短|縮短",
    "loss": """without losing more than|not losing more than|not lose more than|lose no more than|
        must not lose more than|without dropping more than|not drop more than|
        not drop by more than|worse|loss|losses|lose|loses|losing|lost|degrade|degrades|degraded|
        degradation|degrading|worsen|worsens|penalty|损失|变差|退化|損失|差|下跌|丢""",
    "no worse": "no worse than|not worse than|no worse",
    "to": "to|down to|到|至|为|成|為|减到|减至",
    "by": "by",
    "of": "of|的",
    # What a share is a share of.
    "float": """float|floats|float32|fp32|float model|floating point|floating-point|original|
        originally|the original|baseline|full precision|unquantized|before|原来|原来的|原先|原先的|
        原始|原模型|原始模型|浮点|浮点模型|原有|原本|原|原來|原來的""",
    "size": """size|sizes|in size|file|file size|memory|storage|footprint|memory footprint|disk|
        ram|weights|weigh|weighs|weighing|model size|as big|as large|space|
        大小|体积|内存|存储|文件|空间|尺寸|显存|占用|模型大小|容量|体量|存储空间|內存|體積|檔案|
        內存占用|内存占用""",
    "compression": "compression|compression ratio|compression factor|compression rate|"
    "size ratio|压缩比|压缩倍数|压缩率",
    "time": """time|times|latency|latencies|delay|inference|inference time|runtime|run time|
        run-time|response|response time|duration|compute time|computing time|execution time|
        as long|时间|延迟|时延|耗时|推理|推理时间|运行时间|响应|响应时间|用时|延时|推理延迟|延遲|
        時間|推論""",
    "speed": "speed|throughput|frame rate|速度|推理速度|帧率|频率",
    "quality": """accuracy|accurate|success|success rate|success rates|quality|performance|
        correctness|精度|准确率|准确度|成功率|性能|质量|效果|正确率|准确性|準確率|品質""",
    "compute": """compute|computation|computations|computing|compute power|computing power|
        compute capability|compute share|compute limit|compute budget|processor|cpu|算力|计算能力|
        计算|计算量|计算资源|运算|运算量|計算能力|計算""",
    "width": "bit width|bitwidth|bit-width|bit depth|参数精度|位宽|位数|比特数|参数位数",
    "static": "static|静态",
    "dynamic": "dynamic|动态",
    "weight_only": "weight-only|weight only|weights only|仅权重|只量化权重",
    "qat": "qat|quantization-aware training|quantization aware training|量化感知训练",
    "model": "model|models|model's|network|net|policy|robot|robot's|vla|"
    "模型|网络|策略|机器人|模型的",
    "and": ",|;|.|!|?|、|，|。|；|！|？|and|but|&|while|with|as well as|also|"
    "且|并且|而且|和|与|以及|同时|另外|并|但|但是|及|而|且要|並且|同時|還要|还要",
    "filler": """the|a|an|please|pls|hi|hello|thanks|thank you|kindly|i|we|you|me|us|my|our|your|
        it|its|it's|this|that|these|which|is|are|be|being|been|was|should|shall|must|has|have|
        having|had|need|needs|needed|require|required|requires|requirement|want|wants|wanted|
        would like|i'd like|we'd like|want to|wants to|need to|needs to|has to|have to|like to|
        able to|ought to|to be|to have|to run|to use|to take|to make|to get|to keep|to stay|to fit|
        can|could|may|will|allowed|allow|allows|allowing|accept|acceptable|tolerate|tolerates|so|
        for|on|in|as|than|then|make|makes|made|making|get|gets|getting|give|gives|keep|keeps|
        keeping|kept|stay|stays|run|runs|running|take|takes|taking|use|uses|using|used|target|
        targets|want it|total|in total|overall|each|at|per step|per call|per image|per inference|
        per action|per frame|per sample|per picture|a step|a call|an image|an action|a frame|
        /step|/call|/image|/action|/frame|every step|every call|one call|one step|step|steps|call|
        compared|compared to|compared with|relative to|quantize|quantized|quantizes|quantise|
        quantised|quantizing|quantization|quantisation|method|there|let|let's|
        device|machine|result|value|rate|=|:|：|"|“|”|'|(|)|（|）|「|」|-|
        请|请把|请将|把|将|让|使|我|我们|你|要|要求|需要|希望|想要|想|应|应该|应当|必须|须|需|能|可以|
        能够|了|是|在|其|它|它的|这个|该|个|每|每次|每步|一次|一步|单次|单步|一个|时|后|量化|量化后|
        量化后的|帮|帮我|帮忙|给|给我|做|保持|保证|确保|设备|总|总共|也|都|即可|就行|就好|就可以|可|吧|
        等于|完成|跑完|谢谢|您好|你好|用|使用|采用|允许|可接受|接受|方法|方式|有|所|被|更|只有|仅有|的话|方面|相比|
        比|变|变为|變為|請|請把|將|讓|後|時|應|須|個|為了""",
}
"""Class of words → the phrases in it, with | between. The longest phrase that fits is taken."""


@dataclass(frozen=True)
class Token:
    """A word or phrase of a request: its class, its `text`, and the quantity where it is one.

    `glued`: no space stands before it.
    """

    kind: str
    text: str
    quantity: Quantity | None = None
    glued: bool = False


def _phrases() -> dict[str, str]:
    phrases = {}
    for kind, words in WORDS.items():
        for phrase in words.split("|"):
            phrase = " ".join(phrase.split())
            if phrase:
                phrases.setdefault(phrase, kind)
    return phrases


_PHRASES = _phrases()
_LONGEST = max(map(len, _PHRASES))
# Letters and signs of full width, as a Chinese keyboard gives them; but its comma ends a clause
# and stands in no number.
_FULL_WIDTH = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: 0x20, 0x2019: 0x27}
del _FULL_WIDTH[ord("，")]
# A name such as model_size is two words.
_SIGNS = _FULL_WIDTH | {ord("_"): 0x20}
# Words that are one quantity.
_IDIOMS = {
    "twice": ((2.0, "times"), None),
    "double": ((2.0, "times"), None),
    "doubled": ((2.0, "times"), None),
    "triple": ((3.0, "times"), None),
    "thrice": ((3.0, "times"), None),
    "halve": ((0.5, "fraction"), "by"),
    "halved": ((0.5, "fraction"), "by"),
    "减半": ((0.5, "fraction"), "by"),
    "一半": ((0.5, "fraction"), None),
    "快一倍": ((2.0, "times"), "faster"),
}
_INT = re.compile(r"(?:int|w)([2-9]|1\d|32)\b", re.IGNORECASE)
_SIGNED = re.compile(r"[-−–—+~～±]\s*\.?\d+(\.\d+)?", re.ASCII)
# They begin like numbers, and are none: a little, some, several, very, just in case.
_VAGUE = re.compile(r"一点(?![零〇一二三四五六七八九])|一点点|一些|几|十分(?![钟鐘之])|万一")


def read_words(text: str) -> list[Token]:
    """Return the words of a request in order; what is in no class is of the kind "unknown".

    Raises as `labkit.quantities.read_quantity` for a quantity that is not clear.

    >>> [token.kind for token in read_words("under 6 MB, please")]
    ['upper', 'quantity', 'and', 'filler']
    """
    text = re.sub(r"[ \t]+", " ", text.translate(_SIGNS))
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            if text[position - 1] == "\n":
                tokens.append(Token("and", "\n"))
            continue
        found = _token(text, position, tokens)
        tokens.extend(found)
        position += len(found[0].text)
    return tokens


def _token(text: str, position: int, before: list[Token]) -> list[Token]:
    rest = text[position:]
    glued = position > 0 and not text[position - 1].isspace()
    in_word = glued and _letter(text[position - 1])
    signed = _SIGNED.match(rest)
    if signed:
        return [Token("unknown", signed[0], None, glued)]
    vague = _VAGUE.match(rest)
    if vague:
        return [Token("unknown", vague[0], None, glued)]
    phrase = _longest_phrase(rest, in_word)
    idiom = _idiom(rest)
    if idiom and len(idiom) >= len(phrase or ""):
        (value, kind), extra = _IDIOMS[idiom.lower()]
        tokens = [Token("quantity", rest[: len(idiom)], Quantity(value, kind, idiom), glued)]
        return tokens + ([Token(extra, "", None, True)] if extra else [])
    code = None if in_word else _INT.match(rest)
    if code:
        quantity = Quantity(float(code[1]), "bits", code[0])
        return [Token("quantity", code[0], quantity, glued)]
    # "6 %.200 ms": a full stop, as nobody writes .200 straight behind a unit.
    stop = glued and rest[0] == "." and before[-1].kind == "quantity"
    quantity = None if stop or (in_word and rest[0].isascii()) else read_quantity(rest)
    # "one step" is a phrase, "one step" no quantity; "a quarter" is one, "a" a filler.
    if quantity and len(quantity.text) >= len(phrase or ""):
        return [Token("quantity", quantity.text, quantity, glued)]
    if phrase:
        return [Token(_PHRASES[phrase.lower()], rest[: len(phrase)], None, glued)]
    word = re.match(r"[^\W\d_一-鿿]+(?:['’-][^\W\d_一-鿿]+)*|[0-9]+|.", rest, re.DOTALL)
    return [Token("unknown", word[0], None, glued)]


def _idiom(rest: str) -> str | None:
    for idiom in sorted(_IDIOMS, key=len, reverse=True):
        if rest[: len(idiom)].lower() == idiom and not (
            idiom.isascii() and _letter(rest[len(idiom) :][:1])
        ):
            return idiom
    return None


def _longest_phrase(rest: str, in_word: bool) -> str | None:
    """The longest phrase that `rest` starts with; Latin words are not cut, spaces are one."""
    for length in range(min(_LONGEST, len(rest)), 0, -1):
        given = rest[:length]
        if given.lower() not in _PHRASES:
            continue
        if _letter(given[0]) and in_word:
            continue
        if _letter(given[-1]) and _letter(rest[length : length + 1]):
            continue
        return given
    return None


def _letter(sign: str) -> bool:
    """Whether a sign belongs to a Latin word, so that no other may start or end beside it."""
    return sign.isascii() and sign.isalpha()

"""BM25 over one field, from its definition: the second opinion that the server's scores are compared with.

Nothing here is shared with the server but the list of English stop words, which is read from its source. Words are UAX #29 in one
regular expression (docs/decisions has the rules), stems come from the Snowball project's own Python binding, and a length counts as one byte holds
it: exact below 40, above that to four binary digits.
"""
import collections
import functools
import math
import re
import sys
import unicodedata

import Stemmer

from elacsym import REPOSITORY

K1, B = 1.2, 0.75
TERM_BYTES_MAX = 254

MARK = "".join(chr(c) for c in range(sys.maxunicode) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
SINGLE = "\u3005-\u3007\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
EMOJI = "\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
RUN = rf"(?:[^\W_{SINGLE}]++|[{MARK}]++)+"
BETWEEN_LETTERS, BETWEEN_DIGITS = ".'‘’·‧", ".'‘’,;\u2044"


def words_of(run, single=""):
    letter = r"[^\W\d_]"
    joined = rf"(?<={letter})[{BETWEEN_LETTERS}](?={letter})|(?<=\d)[{BETWEEN_DIGITS}](?=\d)"
    return re.compile(rf"{run}(?:(?:{joined}){run})*" + single)


WORD = words_of(RUN, rf"|[{SINGLE}{EMOJI}]")
WORD_ASCII = words_of("[A-Za-z0-9]+")  # the same for ASCII, quicker
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")


@functools.cache
def stop_words():
    source = (REPOSITORY / "src/text/stopwords.c").read_text()
    strings = re.search(r'\[LANG_ENGLISH\] =\s*((?:"[^"]*"\s*)+)', source).group(1)
    return frozenset("".join(re.findall(r'"([^"]*)"', strings)).split())


stemmer = Stemmer.Stemmer("english")


@functools.cache
def term_of(word):
    """None for words that are left out."""
    folded = unicodedata.normalize("NFC", word.replace("’", "'").casefold())
    if folded in stop_words() or len(folded.encode()) > TERM_BYTES_MAX:
        return None
    return stemmer.stemWord(folded)


def terms(text):
    if text.isascii():
        words = WORD_ASCII.findall(text)
    else:
        words = WORD.findall(INVISIBLE.sub("", unicodedata.normalize("NFC", text)))
    return [term for term in map(term_of, words) if term]


def length_kept(length):
    if length < 40:
        return length
    shift = (length - 24).bit_length() - 4
    return 24 + ((length - 24) >> shift << shift)


class Bm25:
    """The field `texts` (id -> text); only words of the queries in `asked` are counted."""

    def __init__(self, texts, asked):
        self.postings = {term: collections.Counter() for query in asked for term in terms(query)}
        self.lengths = {}
        for id, text in texts.items():
            found = terms(text)
            if found:
                self.lengths[id] = len(found)
            for term in found:
                if term in self.postings:
                    self.postings[term][id] += 1
        self.average = sum(self.lengths.values()) / len(self.lengths)

    def term_score(self, term, id):
        frequency = self.postings[term][id]
        rows, having = len(self.lengths), len(self.postings[term])
        idf = math.log(1 + (rows - having + 0.5) / (having + 0.5))
        norm = K1 * (1 - B + B * length_kept(self.lengths[id]) / self.average)
        return idf * frequency / (frequency + norm)

    def scores(self, query):
        """id -> score, for every document with a word of the query."""
        scores = collections.Counter()
        for term in terms(query):
            for id in self.postings[term]:
                scores[id] += self.term_score(term, id)
        return scores

    def having(self, term):
        return self.postings[term].keys()

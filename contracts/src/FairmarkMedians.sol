// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkBreaker} from "./FairmarkBreaker.sol";

/// @title Medians: each feed's rank checked by counting, its answer written or attested
abstract contract FairmarkMedians is FairmarkBreaker {
    /// @dev The hint that leaves a feed alone.
    uint256 private constant NO_MEDIAN = 255;

    /// @dev Every feed's median, where it has one.
    function _accept(Job memory job) internal {
        unchecked {
            uint256 header = job.header;
            uint256 rest = type(uint256).max >> (256 - job.feeds);
            uint256 was = 0;
            if (header & ANY_ATTESTED != 0) was = header & ALL_ATTESTED != 0 ? rest : _sload(_headerAt(job.number) + 1);
            job.wasAttested = was;
            if (header & ANY_PENDING != 0) {
                uint256 pending = _sload(_headerAt(job.number) + 2);
                job.pending = pending;
                job.wasPending = pending;
            }
            uint256 all = job.all;
            if (all != 0 && job.k >= job.least) {
                // all reports call these unchanged, and k of them are enough for any feed
                job.attested = all;
                if (job.pending != 0) job.pending &= ~_everSet(job, job.pending & all);
                rest &= ~all;
            }
            if (rest != 0) {
                _readParams(job);
                _rank(job, rest);
            }
            if (job.cursor != job.end) revert BadPayload(job.cursor);
            uint256 lost = was & ~(job.attested | job.written);
            if (lost != 0) _keepAttestations(job, lost);
        }
    }

    /// @dev Those of `feeds` that have a standing answer: "unchanged" says nothing of one that was never set, and must
    /// not clear its candidate. Asked of waiting feeds only, which are few.
    function _everSet(Job memory job, uint256 feeds) private view returns (uint256 known) {
        unchecked {
            for (uint256 i = 0; feeds != 0; ++i) {
                if (feeds & 1 != 0) {
                    uint256 position = _positionOf(job.number, i) & 63;
                    if (_sload(_feedAt(job.number, i) + position) != 0) known |= 1 << i;
                }
                feeds >>= 1;
            }
        }
    }

    function _readParams(Job memory job) private view {
        address blob = job.blob;
        uint256 params;
        uint256 length = job.feeds * BLOB_FEED;
        assembly ("memory-safe") {
            params := mload(0x40)
            extcodecopy(blob, params, 65, 32)
            let n := and(shr(152, mload(params)), 0xff)
            extcodecopy(blob, params, add(113, mul(n, 20)), length)
            mstore(0x40, add(params, and(add(length, 63), not(31))))
        }
        job.params = params;
    }

    /// @dev The feeds whose bits stand in `rest`, word of positions by word.
    function _rank(Job memory job, uint256 rest) private {
        unchecked {
            // these take the long way: a report calls them unchanged, a candidate waits, or k may be below their minimum
            uint256 odd = job.k < job.least ? type(uint256).max : job.any | job.pending;
            job.span = job.k * job.stride;
            // two counters of 8 bits that run over where more than half the reports lie below, or above
            uint256 middle = (job.k - 1) >> 1;
            job.bias = (255 - middle) | ((256 + middle - job.k) << 64);
            job.written = rest;
            for (uint256 first = 0; rest != 0; first += 32) {
                if (rest & 0xffffffff != 0) _rankWord(job, first, ((odd & 0xffffffff) << 64) | (rest & 0xffffffff));
                rest >>= 32;
                odd >>= 32;
            }
        }
    }

    /// @dev 32 feeds at most, from the group's feed `first` on: of each its bit in `rest`, and 64 bits above in `odd`.
    function _rankWord(Job memory job, uint256 first, uint256 bits) private {
        unchecked {
            uint256 ring = _feedAt(job.number, first);
            uint256 column = job.prices + (first << 3);
            uint256 positions = _sload(_positionsAt(job.number, first)); // turned so that the next feed's is the lowest byte
            while (bits & 0xffffffff != 0) {
                uint256 position = positions & 0xff;
                if (bits & 1 != 0) {
                    uint256 standing = _sload(ring + (position & 63));
                    uint256 word = _plain(job, column, standing, bits);
                    if (word == 0) word = _answer(job, (column - job.prices) >> 3, standing);
                    if (word != 0) {
                        if (standing != 0) position = (position & 0xc0) | ((position + 1) & 63);
                        _sstore(ring + (position & 63), word);
                    }
                }
                positions = (positions >> 8) | (position << 248);
                bits >>= 1;
                column += 8;
                ring += RING;
            }
            uint256 turned = column - job.prices - (first << 3); // 8 bits a feed, as 8 bytes
            _sstore(_positionsAt(job.number, first), (positions << turned) | (positions >> (256 - turned)));
        }
    }

    /// @dev The shortcut: the new answer of the feed whose prices stand in `column`, where every report has a price, the
    /// hinted one is the median, and nothing is beyond a limit, which is what nearly every feed is in nearly every round.
    /// Zero where any of that is not plain to see: then `_answer` judges, by the whole rule.
    function _plain(Job memory job, uint256 column, uint256 standing, uint256 bits)
        private
        pure
        returns (uint256 word)
    {
        assembly ("memory-safe") {
            let spot := mload(add(job, CURSOR))
            mstore(add(job, CURSOR), add(spot, 1))
            spot := mul(byte(0, calldataload(spot)), mload(add(job, STRIDE)))
            if lt(spot, mul(mload(add(job, SPAN)), iszero(and(bits, 0x10000000000000000)))) {
                // A price stands in the 64 highest bits of a word, and other feeds' behind it: words compare as their
                // prices do, but for those that are equal.
                let from := and(mload(add(column, spot)), not(0xffffffffffffffffffffffffffffffffffffffffffffffff))
                let counts := mload(add(job, BIAS))
                let lowest := from
                let highest := or(from, 0xffffffffffffffffffffffffffffffffffffffffffffffff)
                {
                    let stride := mload(add(job, STRIDE))
                    for { let one := add(column, mload(add(job, SPAN))) } gt(one, column) {} {
                        one := sub(one, stride)
                        let price := mload(one)
                        if lt(price, from) {
                            counts := add(counts, 1)
                            if lt(price, lowest) { lowest := price }
                            continue
                        }
                        if gt(price, or(from, 0xffffffffffffffffffffffffffffffffffffffffffffffff)) {
                            counts := add(counts, 0x10000000000000000)
                            if gt(price, highest) { highest := price }
                        }
                    }
                }
                lowest := shr(192, lowest)
                highest := mul(sub(shr(192, highest), lowest), 10000) // the spread, times the median
                let median := shr(192, from)
                let before := shr(192, standing)
                let params := mload(add(mload(add(job, PARAMS)), mul(shr(3, sub(column, mload(add(job, PRICES)))), 12)))
                let away := sub(median, before)
                if gt(before, median) { away := sub(before, median) }
                // the limit never shrinks below its base; without a standing answer nothing is within it
                if gt(
                    iszero(or(and(counts, 0x1000000000000000100), iszero(lowest))),
                    or(
                        gt(mul(away, 10000), mul(and(shr(208, params), 0xffff), before)),
                        gt(highest, mul(and(shr(192, params), 0xffff), median))
                    )
                ) {
                    // what stood, times the seconds that it stood: up to job.time
                    let since := sub(div(and(shr(150, standing), 0x3ffffffffff), 1000), and(shr(145, standing), 31))
                    let stood := add(standing, mul(before, sub(mload(add(job, TIME)), since)))
                    word := or(or(from, shl(129, div(highest, median))), mload(add(job, SUFFIX)))
                    word := or(word, and(stood, 0xffffffffffffffffffffff))
                }
            }
        }
    }

    /// @dev Feed i's new answer by the whole rule: how many reports observe it, the median's rank among those, how far they
    /// lie apart. Zero where it keeps the old one: below its minimum, attested, or waiting.
    function _answer(Job memory job, uint256 i, uint256 standing) private returns (uint256) {
        unchecked {
            uint256 hint = job.cursor - 1;
            assembly ("memory-safe") {
                hint := byte(0, calldataload(hint))
            }
            if ((job.any >> i) & 1 != 0) _fill(job, i, standing >> 192);
            uint256 params = job.params;
            assembly ("memory-safe") {
                params := shr(160, mload(add(params, mul(i, 12))))
            }
            uint256 word = _median(job, i, hint, params);
            if (word != 0) {
                uint256 cumulative = _cumulativeOf(_following(standing, word));
                word = _decide(job, i, hint, word, standing, params);
                if (word != 0) return word | cumulative;
            }
            job.written &= ~(1 << i);
            return 0;
        }
    }

    /// @dev The answer that feed i's observations make, without its cumulative price; zero where they are below its
    /// minimum. Reverts where the hint does not name the median.
    function _median(Job memory job, uint256 i, uint256 hint, uint256 params) private pure returns (uint256) {
        unchecked {
            if (hint >= job.k && hint != NO_MEDIAN) revert NoSuchReport(i, hint);
            uint256 column = job.prices + (i << 3);
            uint256 median = hint == NO_MEDIAN ? 0 : _priceIn(column + hint * job.stride);
            if (median == 0 && hint != NO_MEDIAN) revert MedianMissing(i, hint);
            uint256 present = 0;
            uint256 below = 0;
            uint256 above = 0;
            uint256 lowest = median;
            uint256 highest = median;
            for (uint256 j = 0; j < job.k; ++j) {
                uint256 price = _priceIn(column);
                column += job.stride;
                if (price == 0) continue;
                ++present;
                if (price < median) ++below;
                if (price > median) ++above;
                if (price < lowest) lowest = price;
                if (price > highest) highest = price;
            }
            if (present < params >> 88) return 0;
            if (hint == NO_MEDIAN) revert FeedLeftOut(i, present);
            uint256 middle = (present - 1) >> 1;
            if (below > middle || above >= present - middle) revert NotTheMedian(i, hint);
            uint256 spread = (highest - lowest) * 10_000 / median;
            if (spread > 0xffff) spread = 0xffff;
            return (median << 192) | (spread << 129) | (present << 121) | (job.suffix & ~uint256(0xff << 121));
        }
    }

    /// @dev What becomes of an answer: it may be beyond a limit, confirm or clear a candidate, or be an attestation. Zero
    /// where the standing answer stays.
    function _decide(Job memory job, uint256 i, uint256 hint, uint256 word, uint256 standing, uint256 params)
        private
        returns (uint256)
    {
        unchecked {
            uint256 most = (params >> 32) & 0xffff;
            if ((most != 0 && _spreadOf(word) > most) || _strays(job, i, word, standing, params)) {
                return _confirmed(job, i, word, params) ? word | CONFIRMED : 0;
            }
            job.pending &= ~(1 << i);
            if (!_called(job, i, hint)) return word;
            job.attested |= 1 << i;
            return 0;
        }
    }

    function _priceIn(uint256 spot) private pure returns (uint256 price) {
        assembly ("memory-safe") {
            price := shr(192, mload(spot))
        }
    }

    /// @dev Whether report j calls feed i unchanged.
    function _called(Job memory job, uint256 i, uint256 j) private pure returns (bool yes) {
        uint256 bits = job.unchanged + (j << 5);
        assembly ("memory-safe") {
            yes := and(shr(i, mload(bits)), 1)
        }
    }

    /// @dev Puts the standing answer where reports call feed i unchanged. An unset feed has none: those say nothing.
    function _fill(Job memory job, uint256 i, uint256 value) private pure {
        unchecked {
            for (uint256 j = 0; j < job.k; ++j) {
                if (!_called(job, i, j)) continue;
                uint256 spot = job.prices + j * job.stride + (i << 3);
                assembly ("memory-safe") {
                    mstore(spot, or(mload(spot), shl(192, value)))
                }
            }
        }
    }

    /// @dev Feeds that were attested up to the last round and are not now keep the time of that.
    function _keepAttestations(Job memory job, uint256 lost) private {
        unchecked {
            uint256 header = job.header;
            uint256 kept = (_lastMoment(header) << 40) | (((header >> 8) & 0xff) << 32);
            for (uint256 i = 0; lost != 0; ++i) {
                if (lost & 1 != 0) {
                    uint256 position = _positionOf(job.number, i) & 63;
                    uint256 standing = _sload(_feedAt(job.number, i) + position);
                    _sstore(ATTESTED + (job.number << 8) + i, kept | _roundOf(standing));
                }
                lost >>= 1;
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {FairmarkLayout} from "./FairmarkLayout.sol";

/// @title Rounds: signatures, ranks, the breaker
/// @notice Anyone may relay a round that carries enough signed reports. For each feed the relayer names the report whose
/// observation is the median, and the contract checks that by counting. Nobody between reporter and contract can change a
/// price.
/// @dev A payload, big-endian and without padding:
///
/// ```
/// group's number (2) | set: 0 the standing one, 1 the rotation's (1) | previous moment ms (6) | moment ms (6) | k (1)
/// k reports, strictly ascending by signer:
///     signer's index in the set (1) | r (32) | vs (32, EIP-2098) | evidence root (32) | shape (1)
///     shape 0: prices, 8 bytes for each feed; unchanged is zero
///     shape 1: unchanged (32) | prices, 8 bytes for each feed whose bit is not set; the others' are signed as zero
/// one hint (1) for each feed, in order, but those that all k reports call unchanged (where k is enough for every feed):
///     the index of the report whose observation is the lower median; 255 leaves a feed alone that is below its minimum
/// ```
abstract contract FairmarkRounds is FairmarkLayout, EIP712 {
    /// @dev What a round carries from one step to the next. `prices`, `unchanged`, `params` are places in memory.
    struct Job {
        uint256 number;
        uint256 header;
        uint256 moment;
        uint256 ahead;
        uint256 round;
        uint256 k;
        uint256 feeds;
        uint256 least;
        uint256 prices;
        uint256 stride;
        uint256 unchanged;
        uint256 any;
        uint256 all;
        uint256 params;
        uint256 cursor;
        uint256 end;
        uint256 wasAttested;
        uint256 attested;
        uint256 pending;
        uint256 written;
        address blob;
    }

    /// @notice A round was accepted. Bit i of `written`: the group's feed i has a new answer; of `attested`: its standing
    /// answer was attested; of `pending`: a candidate waits for it.
    event RoundAccepted(
        bytes32 indexed group, uint64 indexed round, uint48 moment, uint256 written, uint256 attested, uint256 pending
    );
    /// @notice A rotation is over: only the new set counts from now on.
    event RotationConcluded(uint256 indexed number);

    /// @dev Half the order of secp256k1.
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    uint256 private constant NO_MEDIAN = 255;

    /// @dev Returns false only when `quiet` and the group has moved on.
    function _submit(bytes calldata payload, bool quiet) internal returns (bool) {
        Job memory job;
        uint256 set;
        uint256 previousMoment;
        {
            if (payload.length < 16) revert BadPayload(payload.length);
            uint256 word;
            uint256 start;
            assembly ("memory-safe") {
                start := payload.offset
                word := calldataload(start)
            }
            job.cursor = start + 16;
            job.end = start + payload.length;
            job.number = word >> 240;
            set = (word >> 232) & 0xff;
            previousMoment = (word >> 184) & 0xffffffffffff;
            job.moment = (word >> 136) & 0xffffffffffff;
            job.k = (word >> 128) & 0xff;
        }
        uint256 header = _sload(_headerAt(job.number));
        if (header >> 96 == 0) revert UnknownGroup(bytes32(job.number));
        {
            uint256 last = _lastMoment(header);
            if (previousMoment != last || job.moment <= last) {
                if (quiet && job.moment <= last) return false;
                if (quiet && previousMoment < last) return false;
                if (previousMoment != last) revert UnexpectedPreviousMoment(uint48(last), uint48(previousMoment));
                revert MomentNotLater(uint48(last), uint48(job.moment));
            }
            if (header & HALTED != 0) revert OraclePaused();
        }
        if (set == 0) {
            job.blob = address(uint160(header >> 96));
        } else {
            (job.blob, header) = _rotated(job.number, header, set);
        }
        job.header = header;
        job.round = _round(header) + 1;
        bytes32 group = _checkReports(job, previousMoment);
        _accept(job);
        if (job.written | job.attested | job.pending == 0) revert NothingAccepted();
        _finish(job, group);
        return true;
    }

    /// @dev The new set of a rotation; from `until` on, its first round ends the old one's time. So a new set that never
    /// makes a round never takes the group down.
    function _rotated(uint256 number, uint256 header, uint256 set) private returns (address blob, uint256) {
        if (set != 1 || header & ROTATING == 0) revert BadPayload(2);
        uint256 rotation = _sload(_headerAt(number) + 3);
        blob = address(uint160(rotation >> 96));
        if (block.timestamp < (rotation >> 48) & 0xffffffffffff) revert BadPayload(2);
        if (block.timestamp >= rotation & 0xffffffffffff) {
            header = ((header & (2 ** 96 - 1)) | (uint256(uint160(blob)) << 96)) & ~ROTATING;
            _sstore(_headerAt(number) + 3, 0);
            emit RotationConcluded(number);
        }
        return (blob, header);
    }

    /// @dev Checks moment and signatures, lays out the prices in memory, keeps the evidence.
    function _checkReports(Job memory job, uint256 previousMoment) private returns (bytes32 group) {
        uint256 k = job.k;
        uint256 signers;
        uint256 n;
        uint256 s; // where the struct to be hashed stands
        {
            address blob = job.blob;
            uint256 head;
            uint256 facts;
            bytes32 groupHash;
            assembly ("memory-safe") {
                head := mload(0x40)
                // most sets have at most 32 signers: head and signers come in one copy
                extcodecopy(blob, head, 1, 720)
                groupHash := mload(head)
                group := mload(add(head, 32))
                facts := mload(add(head, 64))
                signers := add(head, 80)
                n := and(shr(152, facts), 0xff)
                if gt(n, 32) { extcodecopy(blob, signers, 81, mul(n, 20)) }
                // 720 bytes at least, and 32 to read beyond the last signer
                mstore(0x40, add(head, add(752, shl(5, mul(n, gt(n, 32))))))
            }
            job.feeds = ((facts >> 144) & 0xff) + 1;
            job.least = (facts >> 136) & 0xff;
            uint256 threshold = (facts >> 168) & 0xff;
            if (k < threshold) revert TooFewReports(k, threshold);
            _checkMoment(job, (facts >> 176) & 0xffffffff);
            bytes32 typehash = REPORT_TYPEHASH;
            uint256 moment = job.moment;
            assembly ("memory-safe") {
                s := mload(0x40)
                mstore(s, typehash)
                mstore(add(s, 32), groupHash)
                mstore(add(s, 64), previousMoment)
                mstore(add(s, 96), moment)
            }
        }
        // s: 7 words; s + 224: 2 + 32 + 32 bytes of the digest; s + 320: 4 words for ecrecover; then k pairs of reporter and
        // root, k words of unchanged bits, k rows of prices
        unchecked {
            uint256 pairs = s + 448;
            job.unchanged = pairs + (k << 6);
            job.prices = job.unchanged + (k << 5);
            job.stride = ((job.feeds << 3) + 31) & ~uint256(31);
            uint256 end = job.prices + k * job.stride + 32;
            bytes32 separator = _domainSeparatorV4();
            assembly ("memory-safe") {
                mstore(0x40, end)
                mstore(add(s, 224), shl(240, 0x1901))
                mstore(add(s, 226), separator)
            }
            uint256 previous = 0;
            job.all = type(uint256).max;
            for (uint256 j = 0; j < k; ++j) {
                uint256 spot = job.cursor;
                uint256 index;
                uint256 shape;
                assembly ("memory-safe") {
                    index := byte(0, calldataload(spot))
                    shape := byte(0, calldataload(add(spot, 97)))
                }
                if (index >= n) revert NoSuchSigner(j, index);
                // `previous` is one more than the index before
                if (index < previous) revert SignersNotAscending(j, previous - 1, index);
                previous = index + 1;
                job.cursor = spot + 98;
                _readPrices(job, j, shape, s);
                uint256 vs;
                address signer;
                address expected;
                assembly ("memory-safe") {
                    vs := calldataload(add(spot, 33))
                    let root := calldataload(add(spot, 65))
                    mstore(add(s, 160), root)
                    mstore(add(s, 258), keccak256(s, 224))
                    mstore(add(s, 320), keccak256(add(s, 224), 66))
                    mstore(add(s, 352), add(27, shr(255, vs)))
                    mstore(add(s, 384), calldataload(add(spot, 1)))
                    vs := shr(1, shl(1, vs))
                    mstore(add(s, 416), vs)
                    mstore(0, 0)
                    pop(staticcall(gas(), 1, add(s, 320), 128, 0, 32))
                    signer := mload(0)
                    expected := shr(96, mload(add(signers, mul(index, 20))))
                    mstore(add(pairs, shl(6, j)), expected)
                    mstore(add(add(pairs, shl(6, j)), 32), root)
                }
                if (vs > HALF_ORDER) revert MalleableSignature(j);
                // a set has no zero address, which is what a signature by nobody recovers to
                if (signer != expected) revert UnknownSigner(j, signer);
            }
            uint256 evidence;
            assembly ("memory-safe") {
                evidence := keccak256(pairs, shl(6, k))
            }
            _sstore(
                EVIDENCE + (job.number << 6) + (job.round & 63),
                (evidence >> 96 << 96) | (job.moment << 48) | block.number
            );
        }
    }

    function _checkMoment(Job memory job, uint256 maxAgeMs) private view {
        unchecked {
            uint256 moment = job.moment;
            uint256 nowMs = block.timestamp * 1000;
            if (moment > nowMs + MAX_AHEAD_MS) revert MomentInFuture(uint48(moment), nowMs);
            if (moment + maxAgeMs < nowMs) revert StaleMoment(uint48(moment), nowMs);
            uint256 seconds_ = moment / 1000;
            job.ahead = seconds_ > block.timestamp ? seconds_ - block.timestamp : 0;
        }
    }

    /// @dev Report j's unchanged bits and prices into memory; their hash where the struct to be signed wants it.
    function _readPrices(Job memory job, uint256 j, uint256 shape, uint256 s) private pure {
        unchecked {
            uint256 spot = job.cursor;
            uint256 length = job.feeds << 3;
            uint256 row = job.prices + j * job.stride;
            uint256 bits = 0;
            if (shape == 0) {
                assembly ("memory-safe") {
                    calldatacopy(row, spot, length)
                }
                spot += length;
            } else {
                assembly ("memory-safe") {
                    bits := calldataload(spot)
                    calldatacopy(row, calldatasize(), length)
                }
                spot += 32;
                uint256 mask = type(uint256).max >> (256 - job.feeds);
                if (shape != 1 || bits & ~mask != 0) revert BadReport(j);
                uint256 rest = ~bits & mask;
                uint256 to = row;
                while (rest != 0) {
                    if (rest & 0xff == 0) {
                        rest >>= 8;
                        to += 64;
                        continue;
                    }
                    if (rest & 1 != 0) {
                        assembly ("memory-safe") {
                            // ascending: what this clears to the right has not been written yet
                            mstore(to, shl(192, shr(192, calldataload(spot))))
                        }
                        spot += 8;
                    }
                    rest >>= 1;
                    to += 8;
                }
                // the row's last price may have cleared the first of what follows; that row is written later
            }
            job.any |= bits;
            job.all &= bits;
            job.cursor = spot;
            uint256 unchanged = job.unchanged;
            assembly ("memory-safe") {
                mstore(add(unchanged, shl(5, j)), bits)
                mstore(add(s, 128), bits)
                mstore(add(s, 192), keccak256(row, length))
            }
            if (spot > job.end) revert BadPayload(spot);
        }
    }

    /// @dev Every feed's median, where it has one.
    function _accept(Job memory job) private {
        unchecked {
            uint256 header = job.header;
            uint256 mask = type(uint256).max >> (256 - job.feeds);
            job.wasAttested = header & ANY_ATTESTED == 0 ? 0 : _sload(_headerAt(job.number) + 1);
            uint256 pending = header & ANY_PENDING == 0 ? 0 : _sload(_headerAt(job.number) + 2);
            job.pending = pending;
            uint256 rest = mask;
            if (job.k >= job.least) {
                // all reports call these unchanged, and k of them are enough for any feed
                job.attested = job.all;
                job.pending = pending & ~job.all;
                rest = mask & ~job.all;
            }
            if (rest != 0) {
                _readParams(job);
                _rank(job, rest);
            }
            if (job.cursor != job.end) revert BadPayload(job.cursor);
            uint256 lost = job.wasAttested & ~(job.attested | job.written);
            if (lost != 0) _keepAttestations(job, lost);
        }
    }

    function _readParams(Job memory job) private view {
        address blob = job.blob;
        uint256 params;
        uint256 length = job.feeds * BLOB_FEED;
        uint256 n;
        assembly ("memory-safe") {
            params := mload(0x40)
            extcodecopy(blob, params, 65, 32)
            n := and(shr(152, mload(params)), 0xff)
            extcodecopy(blob, params, add(81, mul(n, 20)), length)
            mstore(0x40, add(params, and(add(length, 63), not(31))))
        }
        job.params = params;
    }

    function _rank(Job memory job, uint256 rest) private {
        unchecked {
            uint256 positions = 0;
            uint256 loaded = type(uint256).max;
            for (uint256 i = 0; rest != 0; ++i) {
                if (rest & 1 == 0) {
                    rest >>= 1;
                    continue;
                }
                rest >>= 1;
                if (i >> 5 != loaded) {
                    if (loaded != type(uint256).max) _sstore(_positionsAt(job.number, loaded << 5), positions);
                    loaded = i >> 5;
                    positions = _sload(_positionsAt(job.number, i));
                }
                uint256 shift = (i & 31) << 3;
                uint256 place = _feedAt(job.number, i);
                uint256 position = (positions >> shift) & 63;
                uint256 standing = _sload(place + position);
                (uint256 word, bool same) = _median(job, i, standing);
                if (word == 0) continue;
                uint256 params = _params(job, i);
                if (_strays(job, i, word, standing, params) || _wide(word, params)) {
                    if (!_confirmed(job, i, word, params)) continue;
                    word |= 2 ** 88;
                } else {
                    job.pending &= ~(1 << i);
                    if (same) {
                        job.attested |= 1 << i;
                        continue;
                    }
                }
                position = standing == 0 ? position : (position + 1) & 63;
                _sstore(place + position, _following(standing, word));
                positions = (positions & ~(63 << shift)) | (position << shift);
                job.written |= 1 << i;
            }
            if (loaded != type(uint256).max) _sstore(_positionsAt(job.number, loaded << 5), positions);
        }
    }

    function _params(Job memory job, uint256 i) private pure returns (uint256 params) {
        uint256 spot = job.params;
        assembly ("memory-safe") {
            params := shr(160, mload(add(spot, mul(i, 12))))
        }
    }

    /// @dev Feed i's answer without its cumulative price; zero where it is below its minimum. `same`: the median is an
    /// observation that calls the standing answer unchanged.
    function _median(Job memory job, uint256 i, uint256 standing) private pure returns (uint256 word, bool same) {
        unchecked {
            uint256 hint;
            uint256 column = job.prices + (i << 3);
            {
                uint256 spot = job.cursor;
                assembly ("memory-safe") {
                    hint := byte(0, calldataload(spot))
                }
                if (spot >= job.end) revert BadPayload(spot);
                job.cursor = spot + 1;
            }
            if ((job.any >> i) & 1 != 0) _fill(job, i, _value(standing));
            uint256 candidate = 0;
            if (hint != NO_MEDIAN) {
                if (hint >= job.k) revert NoSuchReport(i, hint);
                uint256 spot = column + hint * job.stride;
                assembly ("memory-safe") {
                    candidate := shr(192, mload(spot))
                }
                if (candidate == 0) revert MedianMissing(i, hint);
            }
            uint256 missing = 0;
            uint256 below = 0;
            uint256 above = 0;
            uint256 lowest = type(uint256).max;
            uint256 highest = 0;
            uint256 stride = job.stride;
            uint256 k = job.k;
            assembly ("memory-safe") {
                let end := add(column, mul(k, stride))
                for { let spot := column } lt(spot, end) { spot := add(spot, stride) } {
                    let price := shr(192, mload(spot))
                    missing := add(missing, iszero(price))
                    below := add(below, lt(price, candidate))
                    above := add(above, gt(price, candidate))
                    // less one, a missing price is greater than any
                    let less := sub(price, 1)
                    lowest := xor(lowest, mul(xor(lowest, less), lt(less, lowest)))
                    highest := xor(highest, mul(xor(highest, price), gt(price, highest)))
                }
            }
            uint256 present = k - missing;
            {
                uint256 least = _params(job, i) >> 88;
                if (present < least) return (0, false);
                if (hint == NO_MEDIAN) revert FeedLeftOut(i, present);
            }
            // below counts the missing ones, too
            uint256 rank = (present - 1) >> 1;
            if (below - missing > rank || rank >= present - above) revert NotTheMedian(i, hint);
            uint256 spread = ((highest - lowest - 1) * 10_000) / candidate;
            if (spread > 0xffff) spread = 0xffff;
            word = (candidate << 192) | (job.moment << 150) | (job.ahead << 145) | (spread << 129) | (present << 121)
                | (job.round << 89);
            uint256 bits = job.unchanged + (hint << 5);
            assembly ("memory-safe") {
                same := and(shr(i, mload(bits)), 1)
            }
        }
    }

    /// @dev Puts the standing answer where reports call feed i unchanged. An unset feed has none: those say nothing.
    function _fill(Job memory job, uint256 i, uint256 value) private pure {
        unchecked {
            for (uint256 j = 0; j < job.k; ++j) {
                uint256 bits = job.unchanged + (j << 5);
                uint256 spot = job.prices + j * job.stride + (i << 3);
                assembly ("memory-safe") {
                    if and(shr(i, mload(bits)), 1) { mstore(spot, or(mload(spot), shl(192, value))) }
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ breaker

    /// @dev Whether `word` lies beyond the limit around feed i's standing answer.
    function _strays(Job memory job, uint256 i, uint256 word, uint256 standing, uint256 params)
        private
        view
        returns (bool)
    {
        // without the time since: the limit never shrinks below its base
        if (!_beyond(word, standing, _momentOf(word), params)) return false;
        uint256 fresh = _momentOf(standing);
        if ((job.wasAttested >> i) & 1 != 0) {
            fresh = _lastMoment(job.header);
        } else {
            uint256 kept = _sload(ATTESTED + (job.number << 8) + i);
            if (kept & 0xffffffff == _roundOf(standing) && kept >> 40 > fresh) fresh = kept >> 40;
        }
        return _beyond(word, standing, fresh, params);
    }

    function _wide(uint256 word, uint256 params) private pure returns (bool) {
        uint256 most = (params >> 32) & 0xffff;
        return most != 0 && _spreadOf(word) > most;
    }

    /// @dev Whether `word` lies further from `anchor`, as it stood at `fresh`, than the feed's limit:
    /// limit^2 = base^2 * min(max(1, elapsed / heartbeat), 16).
    function _beyond(uint256 word, uint256 anchor, uint256 fresh, uint256 params) private pure returns (bool) {
        unchecked {
            uint256 base = (params >> 48) & 0xffff;
            uint256 from = _value(anchor);
            if (base == 0 || from == 0) return false;
            uint256 to = _value(word);
            uint256 away = (to > from ? to - from : from - to) * 10_000;
            uint256 allowed = base * from;
            if (away <= allowed) return false;
            uint256 heartbeat = (params & 0xffffffff) * 1000;
            uint256 elapsed = _momentOf(word) - fresh;
            if (elapsed <= heartbeat) return true;
            if (elapsed > heartbeat << 4) elapsed = heartbeat << 4;
            // away < 2^78, allowed < 2^80, heartbeat * 16 < 2^40
            return away * away * heartbeat > allowed * allowed * elapsed;
        }
    }

    /// @dev `word` is beyond a limit. True where it confirms the waiting candidate; else it waits itself, unless the
    /// candidate is near it and only too young.
    function _confirmed(Job memory job, uint256 i, uint256 word, uint256 params) private returns (bool) {
        unchecked {
            uint256 slot = CANDIDATES + (job.number << 8) + i;
            if ((job.pending >> i) & 1 != 0) {
                uint256 candidate = _sload(slot);
                if (!_beyond(word, candidate, _momentOf(candidate), params)) {
                    if (_momentOf(word) - _momentOf(candidate) < CONFIRM_DELAY_MS) return false;
                    job.pending &= ~(1 << i);
                    return true;
                }
            }
            _sstore(slot, word);
            job.pending |= 1 << i;
            return false;
        }
    }

    // ------------------------------------------------------------------------------------------------ closing

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

    function _finish(Job memory job, bytes32 group) private {
        uint256 spot = _headerAt(job.number);
        uint256 flags = job.header & 0xff;
        uint256 attested = job.attested;
        uint256 pending = job.pending;
        if (attested != 0) {
            if (flags & ANY_ATTESTED == 0 || attested != job.wasAttested) _sstore(spot + 1, attested);
            flags |= ANY_ATTESTED;
        } else {
            flags &= ~ANY_ATTESTED;
        }
        if (pending != 0) {
            _sstore(spot + 2, pending);
            flags |= ANY_PENDING;
        } else {
            flags &= ~ANY_PENDING;
        }
        _sstore(spot, (job.header >> 96 << 96) | (job.moment << 48) | (job.round << 16) | (job.ahead << 8) | flags);
        emit RoundAccepted(group, uint64(job.round), uint48(job.moment), job.written, attested, pending);
    }
}

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
///     shape 2: nothing more; every feed is unchanged
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
        bytes32 allUnchanged;
        uint256 suffix;
        uint256 time;
        uint256 params;
        uint256 cursor;
        uint256 end;
        uint256 wasAttested;
        uint256 wasPending;
        uint256 attested;
        uint256 pending;
        uint256 written;
        address blob;
    }

    /// @notice A round was accepted. Bit i of `written`: the group's feed i has a new answer; of `attested`: its standing
    /// answer was attested.
    event RoundAccepted(
        bytes32 indexed group, uint64 indexed round, uint48 moment, uint256 written, uint256 attested
    );
    /// @notice Candidates came to wait, or were confirmed or cleared. Bit i of `pending`: one waits for feed i.
    event CandidatesChanged(bytes32 indexed group, uint64 indexed round, uint256 pending);
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
            bytes32 separator = _domainSeparatorV4();
            uint256 moment = job.moment;
            assembly ("memory-safe") {
                s := mload(0x40)
                mstore(s, typehash)
                mstore(add(s, 32), groupHash)
                mstore(add(s, 64), previousMoment)
                mstore(add(s, 96), moment)
                mstore(add(s, 224), shl(240, 0x1901))
                mstore(add(s, 226), separator)
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
            assembly ("memory-safe") {
                mstore(0x40, end)
            }
            uint256 cursor = job.cursor;
            uint256 row = job.prices;
            uint256 length = job.feeds << 3;
            uint256 previous = 0; // one more than the index before
            job.all = type(uint256).max;
            for (uint256 j = 0; j < k; ++j) {
                uint256 index;
                uint256 shape;
                assembly ("memory-safe") {
                    index := byte(0, calldataload(cursor))
                    shape := byte(0, calldataload(add(cursor, 97)))
                }
                if (index >= n) revert NoSuchSigner(j, index);
                if (index < previous) revert SignersNotAscending(j, previous - 1, index);
                previous = index + 1;
                uint256 next = cursor + 98;
                if (shape == 0) {
                    job.all = 0;
                    assembly ("memory-safe") {
                        calldatacopy(row, next, length)
                        mstore(add(s, 128), 0)
                        mstore(add(s, 192), keccak256(row, length))
                        next := add(next, length)
                    }
                } else {
                    if (shape > 2) revert BadReport(j);
                    next = _readSparse(job, j, shape, next, row, s);
                }
                row += job.stride;
                uint256 vs;
                address signer;
                address expected;
                assembly ("memory-safe") {
                    // root, r and vs, where they are hashed or recovered from
                    calldatacopy(add(s, 160), add(cursor, 65), 32)
                    mstore(add(s, 258), keccak256(s, 224))
                    mstore(add(s, 320), keccak256(add(s, 224), 66))
                    vs := calldataload(add(cursor, 33))
                    mstore(add(s, 352), add(27, shr(255, vs)))
                    calldatacopy(add(s, 384), add(cursor, 1), 32)
                    vs := and(vs, 0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff)
                    mstore(add(s, 416), vs)
                    mstore(0, 0)
                    pop(staticcall(gas(), 1, add(s, 320), 128, 0, 32))
                    signer := mload(0)
                    expected := shr(96, mload(add(signers, mul(index, 20))))
                    let pair := add(pairs, shl(6, j))
                    mstore(pair, expected)
                    mstore(add(pair, 32), mload(add(s, 160)))
                }
                if (vs > HALF_ORDER) revert MalleableSignature(j);
                // a set has no zero address, which is what a signature by nobody recovers to
                if (signer != expected) revert UnknownSigner(j, signer);
                cursor = next;
            }
            job.cursor = cursor;
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
            uint256 ahead = seconds_ > block.timestamp ? seconds_ - block.timestamp : 0;
            job.ahead = ahead;
            job.time = seconds_ - ahead;
            job.suffix = (moment << 150) | (ahead << 145) | (job.round << 89);
        }
    }

    /// @dev Report j's unchanged bits, and prices where they are not set, into memory; what is signed of them where the
    /// struct wants it. Returns where the report ends.
    function _readSparse(Job memory job, uint256 j, uint256 shape, uint256 cursor, uint256 row, uint256 s)
        private
        pure
        returns (uint256)
    {
        unchecked {
            uint256 mask = type(uint256).max >> (256 - job.feeds);
            uint256 bits = mask;
            if (shape == 1) {
                assembly ("memory-safe") {
                    bits := calldataload(cursor)
                }
                cursor += 32;
                if (bits & ~mask != 0) revert BadReport(j);
            }
            uint256 unchanged = job.unchanged + (j << 5);
            assembly ("memory-safe") {
                mstore(unchanged, bits)
                mstore(add(s, 128), bits)
            }
            uint256 rest = ~bits & mask;
            job.any |= bits;
            job.all &= bits;
            bytes32 hash = rest == 0 ? job.allUnchanged : bytes32(0);
            // memory that nobody has written yet is zero: so are the prices that are not here
            uint256 to = row;
            for (uint256 left = rest; left != 0; left >>= 1) {
                while (left & 0xff == 0) {
                    left >>= 8;
                    to += 64;
                }
                if (left & 1 != 0) {
                    assembly ("memory-safe") {
                        // ascending: what this clears to the right has not been written yet
                        mstore(to, shl(192, shr(192, calldataload(cursor))))
                    }
                    cursor += 8;
                }
                to += 8;
            }
            if (hash == 0) {
                uint256 length = job.feeds << 3;
                assembly ("memory-safe") {
                    hash := keccak256(row, length)
                }
                if (rest == 0) job.allUnchanged = hash;
            }
            assembly ("memory-safe") {
                mstore(add(s, 192), hash)
            }
            return cursor;
        }
    }

    /// @dev Every feed's median, where it has one.
    function _accept(Job memory job) private {
        unchecked {
            uint256 header = job.header;
            uint256 mask = type(uint256).max >> (256 - job.feeds);
            job.wasAttested = header & ALL_ATTESTED != 0
                ? mask
                : header & ANY_ATTESTED == 0 ? 0 : _sload(_headerAt(job.number) + 1);
            uint256 pending = header & ANY_PENDING == 0 ? 0 : _sload(_headerAt(job.number) + 2);
            job.pending = pending;
            job.wasPending = pending;
            uint256 rest = mask;
            if (job.k >= job.least) {
                // all reports call these unchanged, and k of them are enough for any feed
                job.attested = job.all;
                job.pending = pending & ~_everSet(job, pending & job.all);
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

    /// @dev Those of `feeds` that have a standing answer: "unchanged" says nothing of one that was never set, and must
    /// not clear its candidate. Asked of waiting feeds only, which are few.
    function _everSet(Job memory job, uint256 feeds) private view returns (uint256 known) {
        unchecked {
            for (uint256 i = 0; feeds != 0; ++i) {
                if (feeds & 1 != 0) {
                    uint256 position = (_sload(_positionsAt(job.number, i)) >> ((i & 31) << 3)) & 63;
                    if (_sload(_feedAt(job.number, 0) + (i << 6) + position) != 0) known |= 1 << i;
                }
                feeds >>= 1;
            }
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
            uint256 written = 0;
            uint256 place = _feedAt(job.number, 0);
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
                uint256 spot = place + (i << 6);
                uint256 position = (positions >> shift) & 63;
                uint256 standing = _sload(spot + position);
                uint256 word = _answer(job, i, standing);
                if (word == 0) continue;
                if (standing != 0) {
                    positions ^= position << shift;
                    position = (position + 1) & 63;
                    positions ^= position << shift;
                }
                _sstore(spot + position, word);
                written |= 1 << i;
            }
            job.written = written;
            if (loaded != type(uint256).max) _sstore(_positionsAt(job.number, loaded << 5), positions);
        }
    }

    /// @dev Feed i's new answer, by one pass over its prices: how many, the median's rank, how far apart. Zero where it
    /// keeps the old one: below its minimum, attested, or waiting.
    function _answer(Job memory job, uint256 i, uint256 standing) private returns (uint256 word) {
        unchecked {
            uint256 hint;
            uint256 from = standing >> 192;
            uint256 column = job.prices + (i << 3);
            {
                uint256 spot = job.cursor;
                assembly ("memory-safe") {
                    hint := byte(0, calldataload(spot))
                }
                job.cursor = spot + 1;
            }
            bool filled = (job.any >> i) & 1 != 0;
            if (filled) _fill(job, i, from);
            uint256 median = 0;
            uint256 stride = job.stride;
            if (hint != NO_MEDIAN) {
                if (hint >= job.k) revert NoSuchReport(i, hint);
                assembly ("memory-safe") {
                    median := shr(192, mload(add(column, mul(hint, stride))))
                }
                if (median == 0) revert MedianMissing(i, hint);
            }
            uint256 params = job.params;
            assembly ("memory-safe") {
                params := shr(160, mload(add(params, mul(i, 12))))
            }
            uint256 present;
            uint256 spread;
            {
                uint256 k = job.k;
                uint256 below;
                uint256 above;
                assembly ("memory-safe") {
                    // less one, a missing price is greater than any
                    let lowest := not(0)
                    let highest := 0
                    let end := add(column, mul(k, stride))
                    present := k
                    for {} 1 {} {
                        let price := shr(192, mload(column))
                        below := add(below, lt(price, median))
                        above := add(above, gt(price, median))
                        if gt(price, highest) { highest := price }
                        price := sub(price, 1)
                        if lt(price, lowest) { lowest := price }
                        present := sub(present, shr(255, price))
                        column := add(column, stride)
                        if eq(column, end) { break }
                    }
                    spread := mul(sub(sub(highest, lowest), 1), 10000)
                    // it counted the missing ones, too
                    below := sub(below, sub(k, present))
                }
                if (present < params >> 88) return 0;
                if (hint == NO_MEDIAN) revert FeedLeftOut(i, present);
                k = (present - 1) >> 1;
                if (below > k || k >= present - above) revert NotTheMedian(i, hint);
                assembly ("memory-safe") {
                    spread := div(spread, median) // never zero here
                }
                if (spread > 0xffff) spread = 0xffff;
            }
            word = (median << 192) | (spread << 129) | (present << 121) | job.suffix;
            uint256 stood = standing == 0 ? 0 : job.time - _timeOf(standing);
            uint256 cumulative = ((standing & (2 ** 88 - 1)) + from * stood) & (2 ** 88 - 1);
            // the limit never shrinks below its base: what is within that needs no more thought
            uint256 away = (median > from ? median - from : from - median) * 10_000;
            uint256 most = (params >> 32) & 0xffff;
            bool near = away <= ((params >> 48) & 0xffff) * from && (most == 0 || spread <= most);
            if (!near && (_strays(job, i, word, standing, params) || (most != 0 && spread > most))) {
                if (!_confirmed(job, i, word, params)) return 0;
                cumulative |= 2 ** 88;
            } else {
                if (job.pending != 0) job.pending &= ~(1 << i);
                if (filled) {
                    uint256 bits = job.unchanged + (hint << 5);
                    assembly ("memory-safe") {
                        bits := and(shr(i, mload(bits)), 1)
                    }
                    if (bits != 0) {
                        job.attested |= 1 << i;
                        return 0;
                    }
                }
            }
            return word | cumulative;
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
        if ((params >> 48) & 0xffff == 0 || standing == 0) return false;
        uint256 fresh = _momentOf(standing);
        if ((job.wasAttested >> i) & 1 != 0) {
            fresh = _lastMoment(job.header);
        } else {
            uint256 kept = _sload(ATTESTED + (job.number << 8) + i);
            if (kept & 0xffffffff == _roundOf(standing) && kept >> 40 > fresh) fresh = kept >> 40;
        }
        return _beyond(word, standing, fresh, params);
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
        if (attested == 0) {
            flags &= ~(ANY_ATTESTED | ALL_ATTESTED);
        } else if (attested == type(uint256).max >> (256 - job.feeds)) {
            flags |= ANY_ATTESTED | ALL_ATTESTED;
        } else {
            if (flags & ALL_ATTESTED != 0 || attested != job.wasAttested) _sstore(spot + 1, attested);
            flags = (flags | ANY_ATTESTED) & ~ALL_ATTESTED;
        }
        if (pending != job.wasPending) {
            _sstore(spot + 2, pending);
            flags = pending == 0 ? flags & ~ANY_PENDING : flags | ANY_PENDING;
            emit CandidatesChanged(group, uint64(job.round), pending);
        }
        _sstore(spot, (job.header >> 96 << 96) | (job.moment << 48) | (job.round << 16) | (job.ahead << 8) | flags);
        emit RoundAccepted(group, uint64(job.round), uint48(job.moment), job.written, attested);
    }
}

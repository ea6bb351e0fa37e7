// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkErrors} from "./FairmarkErrors.sol";
import {FairmarkTypes} from "./FairmarkTypes.sol";

/// @title Where everything stands, and how it is packed
/// @dev Groups are numbered from 1, a group's feeds from 0; neither number is ever given away again. Feeds, positions and
/// the rest lie at computed places, so that no hash is needed to find them. Every area begins at a hash of its own and is
/// smaller than 2^40 slots.
///
/// ```
/// HEADERS    + 8 g      header      blob (160) | lastMoment ms (48) | round (32) | ahead s (8) | flags (8)
///            + 8 g + 1  attested    bit i: feed i was attested in the last round        valid while ANY_ATTESTED, not ALL_
///            + 8 g + 2  pending     bit i: a candidate waits for feed i                  valid while ANY_PENDING
///            + 8 g + 3  rotation    blob of the new set (160) | from s (48) | until s (48)  valid while ROTATING
///            + 8 g + 4  version     the newest version of the group's configuration
/// FEEDS      + g * 2^14 + i * 64 + p      answer, at position p of feed i's ring of 64:
///                       value (64) | moment ms (42) | ahead s (5) | spread bps (16) | contributors (8) | round (32)
///                       | confirmed (1) | cumulative (88)
/// POSITIONS  + 8 g + i / 32   one byte a feed:  group halted (1) | feed halted (1) | p of its newest answer (6)
/// ATTESTED   + 256 g + i      moment ms (48) | ahead s (8) | round (32): the last attestation of the answer of that round;
///                             written only when a feed that was attested no longer is
/// CANDIDATES + 256 g + i      value (64) | moment ms (42) | ahead s (5) | spread (16) | contributors (8) | round (32) | 0 (89)
/// EVIDENCE   + 64 g + r % 64  hash of reporters and roots (160) | moment ms (48) | block (48)
/// _places[id]                 group (16) | feed (8) | decimals (8) | minContributors (8) | deviationBps (16)
///                             | limitBps (16) | maxSpreadBps (16) | heartbeat s (32) | grace s (16) | 0 (120)
///
/// the code of a blob          00 | groupHash (32) | name (32) | number (2) version (4) maxAgeMs (4) threshold (1) f (1)
///                             signers n (1) feeds N - 1 (1) least (1) 0 (1) | hash of a row without a price (32)
///                             | n addresses (20) | N times minContributors (1) decimals (1) deviationBps (2)
///                             limitBps (2) maxSpreadBps (2) heartbeat (4) | N ids (32)
/// ```
///
/// A moment may lie up to 30 s ahead of its block; `ahead` is by how much, so that readers return no time later than the
/// block's. `cumulative` is the sum of every earlier answer times the seconds that it stood, modulo 2^88: a difference over
/// less than 2^24 s is exact for any 64-bit prices. `least` is the greatest minContributors of the feeds.
abstract contract FairmarkLayout is FairmarkTypes, FairmarkErrors {
    /// @notice A rotation is over: only the new set counts from now on.
    /// @param number the group's
    event RotationConcluded(uint256 indexed number);

    uint256 internal constant HEADERS = uint256(keccak256("fairmark.headers")) & ~uint256(2 ** 48 - 1);
    uint256 internal constant FEEDS = uint256(keccak256("fairmark.feeds")) & ~uint256(2 ** 48 - 1);
    uint256 internal constant POSITIONS = uint256(keccak256("fairmark.positions")) & ~uint256(2 ** 48 - 1);
    uint256 internal constant ATTESTED = uint256(keccak256("fairmark.attested")) & ~uint256(2 ** 48 - 1);
    uint256 internal constant CANDIDATES = uint256(keccak256("fairmark.candidates")) & ~uint256(2 ** 48 - 1);
    uint256 internal constant EVIDENCE = uint256(keccak256("fairmark.evidence")) & ~uint256(2 ** 48 - 1);

    uint256 internal constant RING = 64;
    uint256 internal constant PAUSED = 1;
    uint256 internal constant ROTATING = 2;
    uint256 internal constant ANY_PENDING = 4;
    uint256 internal constant ANY_ATTESTED = 8;
    uint256 internal constant TOO_FEW = 16;
    /// @dev With ANY_ATTESTED: every feed was, whatever the bitmap says.
    uint256 internal constant ALL_ATTESTED = 32;
    uint256 internal constant HALTED = PAUSED | TOO_FEW;

    /// @dev In an answer: it was a candidate before.
    uint256 internal constant CONFIRMED = 2 ** 88;

    /// @dev Bytes of a blob before the signers, and of one feed's parameters in it.
    uint256 internal constant BLOB_HEAD = 112;
    uint256 internal constant BLOB_FEED = 12;

    bytes32 internal constant REPORT_TYPE = keccak256(
        "Report(bytes32 groupHash,uint48 previousMoment,uint48 moment,uint256 unchanged,bytes32 evidenceRoot,bytes prices)"
    );
    uint256 internal constant AHEAD_MS = 30_000;
    uint256 internal constant CONFIRM_MS = 30_000;

    /// @notice Each group's number; zero where there is none.
    mapping(bytes32 group => uint256) internal _numbers;
    mapping(bytes32 id => uint256) internal _places;
    mapping(bytes32 id => string) internal _descriptions;

    function _sload(uint256 slot) internal view returns (uint256 word) {
        assembly ("memory-safe") {
            word := sload(slot)
        }
    }

    function _sstore(uint256 slot, uint256 word) internal {
        assembly ("memory-safe") {
            sstore(slot, word)
        }
    }

    function _headerAt(uint256 number) internal pure returns (uint256) {
        unchecked {
            return HEADERS + (number << 3);
        }
    }

    function _feedAt(uint256 number, uint256 index) internal pure returns (uint256) {
        unchecked {
            return FEEDS + (number << 14) + (index << 6);
        }
    }

    function _positionsAt(uint256 number, uint256 index) internal pure returns (uint256) {
        unchecked {
            return POSITIONS + (number << 3) + (index >> 5);
        }
    }

    /// @dev A feed's byte in its positions word: the first feed of the word has the lowest byte.
    function _positionOf(uint256 number, uint256 index) internal view returns (uint256) {
        return (_sload(_positionsAt(number, index)) >> ((index & 31) << 3)) & 0xff;
    }

    // an answer's fields

    function _value(uint256 word) internal pure returns (uint256) {
        return word >> 192;
    }

    function _momentOf(uint256 word) internal pure returns (uint256) {
        return (word >> 150) & 0x3ffffffffff;
    }

    /// @dev Seconds, never after the block that accepted it.
    function _timeOf(uint256 word) internal pure returns (uint256) {
        unchecked {
            return _momentOf(word) / 1000 - ((word >> 145) & 31);
        }
    }

    function _spreadOf(uint256 word) internal pure returns (uint256) {
        return (word >> 129) & 0xffff;
    }

    function _contributorsOf(uint256 word) internal pure returns (uint256) {
        return (word >> 121) & 0xff;
    }

    function _roundOf(uint256 word) internal pure returns (uint256) {
        return (word >> 89) & 0xffffffff;
    }

    function _cumulativeOf(uint256 word) internal pure returns (uint256) {
        return word & (2 ** 88 - 1);
    }

    /// @dev `word` is a new answer or candidate without its cumulative price, `standing` the answer before it.
    function _following(uint256 standing, uint256 word) internal pure returns (uint256) {
        unchecked {
            uint256 stood = standing == 0 ? 0 : _timeOf(word) - _timeOf(standing);
            return word | ((_cumulativeOf(standing) + _value(standing) * stood) & (2 ** 88 - 1));
        }
    }

    // a header's fields

    function _lastMoment(uint256 header) internal pure returns (uint256) {
        return (header >> 48) & 0xffffffffffff;
    }

    function _round(uint256 header) internal pure returns (uint256) {
        return (header >> 16) & 0xffffffff;
    }

    function _groupTime(uint256 header) internal pure returns (uint256) {
        unchecked {
            return _lastMoment(header) / 1000 - ((header >> 8) & 0xff);
        }
    }

    /// @dev The code behind `blob` from byte `from` on, without the leading zero byte.
    function _blobBytes(address blob, uint256 from, uint256 length) internal view returns (bytes memory out) {
        out = new bytes(length);
        assembly ("memory-safe") {
            extcodecopy(blob, add(out, 32), add(from, 1), length)
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkLayout} from "./FairmarkLayout.sol";

/// @title How feeds and groups stand: what readers and governance share
abstract contract FairmarkStandings is FairmarkLayout {
    /// @dev A round's exact moment (milliseconds), the block that accepted it, and the hash of its reporters and roots,
    /// for the last 64 rounds. All zero where there is no such round.
    function _roundInfo(bytes32 group, uint64 round)
        internal
        view
        returns (uint48 moment, uint64 acceptedBlock, bytes20 evidence)
    {
        uint256 number = _numbers[group];
        uint256 last = _round(_sload(_headerAt(number)));
        if (number == 0 || round == 0 || round > last || round + RING <= last) return (0, 0, 0);
        uint256 word = _sload(EVIDENCE + (number << 6) + (round & 63));
        return (uint48(word >> 48), uint48(word), bytes20(uint160(word >> 96)));
    }

    function _facts(address blob) internal view returns (uint256) {
        return uint256(bytes32(_blobBytes(blob, 64, 32)));
    }

    function _signersIn(address blob, uint256 facts) internal view returns (address[] memory signers) {
        uint256 n = (facts >> 152) & 0xff;
        bytes memory packed = _blobBytes(blob, BLOB_HEAD, n * 20);
        signers = new address[](n);
        for (uint256 i = 0; i < n; ++i) {
            assembly ("memory-safe") {
                mstore(add(signers, add(32, shl(5, i))), shr(96, mload(add(packed, add(32, mul(i, 20))))))
            }
        }
    }

    function _idsIn(address blob, uint256 facts) internal view returns (bytes32[] memory ids) {
        uint256 count = ((facts >> 144) & 0xff) + 1;
        uint256 from = BLOB_HEAD + ((facts >> 152) & 0xff) * 20 + count * BLOB_FEED;
        ids = new bytes32[](count);
        assembly ("memory-safe") {
            extcodecopy(blob, add(ids, 32), add(from, 1), shl(5, count))
        }
    }

    // ------------------------------------------------------------------------------------------------ inside

    function _known(bytes32 id) internal view returns (uint256 place) {
        place = _places[id];
        if (place == 0) revert UnknownFeed(id);
    }

    // A feed as it stands: `place`, from the registry; `position`, its byte: halts, and where in the ring; `word`, its newest
    // answer.

    function _standing(uint256 place) internal view returns (uint256 position, uint256 word) {
        position = _positionOf(_numberIn(place), _indexIn(place));
        word = _sload(_feedAt(_numberIn(place), _indexIn(place)) + (position & 63));
    }

    /// @dev A feed with an answer that may be used, whatever its age.
    function _usable(bytes32 id) internal view returns (uint256 place, uint256 position, uint256 word) {
        place = _known(id);
        (position, word) = _standing(place);
        if (word == 0) revert UnsetFeed(id);
        if (position & 0xc0 != 0) revert FeedHalted(id);
    }

    function _young(bytes32 id, uint256 place, uint256 word, uint256 maxAge) internal view returns (uint256 updatedAt) {
        updatedAt = _timeOf(word);
        unchecked {
            if (block.timestamp - updatedAt > maxAge) {
                updatedAt = _updatedAt(place, word, _sload(_headerAt(_numberIn(place))));
                if (block.timestamp - updatedAt > maxAge) revert TooOld(id, updatedAt, maxAge);
            }
        }
    }

    function _judge(uint256 place, uint256 position, uint256 word)
        internal
        view
        returns (Status status, uint256 updatedAt)
    {
        uint256 header = _sload(_headerAt(_numberIn(place)));
        updatedAt = _roundOf(word) == _round(header) ? _timeOf(word) : _updatedAt(place, word, header);
        if (position & 0xc0 != 0) return (Status.Halted, updatedAt);
        if (block.timestamp - updatedAt > _staleAfter(place)) return (Status.Stale, updatedAt);
        return (_isPending(place, header) ? Status.Pending : Status.Fresh, updatedAt);
    }

    function _isPending(uint256 place, uint256 header) internal view returns (bool) {
        return header & ANY_PENDING != 0 && (_sload(_headerAt(_numberIn(place)) + 2) >> _indexIn(place)) & 1 != 0;
    }

    function _isAttested(uint256 place, uint256 header) internal view returns (bool) {
        if (header & ANY_ATTESTED == 0) return false;
        return header & ALL_ATTESTED != 0 || (_sload(_headerAt(_numberIn(place)) + 1) >> _indexIn(place)) & 1 != 0;
    }

    /// @dev When the standing answer was last accepted or attested, in seconds.
    function _updatedAt(uint256 place, uint256 word, uint256 header) internal view returns (uint256) {
        if (_isAttested(place, header)) return _groupTime(header);
        uint256 kept = _kept(place, word);
        return kept == 0 ? _timeOf(word) : (kept >> 40) / 1000 - ((kept >> 32) & 0xff);
    }

    /// @dev The same, exactly, in milliseconds: it may lie up to 30 s ahead of its block.
    function _freshMoment(uint256 place, uint256 word, uint256 header) internal view returns (uint256) {
        if (_isAttested(place, header)) return _lastMoment(header);
        uint256 kept = _kept(place, word);
        return kept == 0 ? _momentOf(word) : kept >> 40;
    }

    function _kept(uint256 place, uint256 word) internal view returns (uint256 kept) {
        kept = _sload(ATTESTED + (_numberIn(place) << 8) + _indexIn(place));
        if (kept & 0xffffffff != _roundOf(word)) return 0;
    }

    function _numberIn(uint256 place) internal pure returns (uint256) {
        return place >> 240;
    }

    function _indexIn(uint256 place) internal pure returns (uint256) {
        return (place >> 232) & 0xff;
    }

    function _staleAfter(uint256 place) internal pure returns (uint256) {
        unchecked {
            return ((place >> 136) & 0xffffffff) + ((place >> 120) & 0xffff);
        }
    }

    function _decimals(uint256 place) internal pure returns (uint256) {
        return (place >> 224) & 0xff;
    }

    function _config(bytes32 id, uint256 place) internal pure returns (FeedConfig memory) {
        return FeedConfig({
            id: id,
            decimals: uint8(place >> 224),
            minContributors: uint8(place >> 216),
            deviationBps: uint16(place >> 200),
            heartbeat: uint32(place >> 136),
            limitBps: uint16(place >> 184),
            maxSpreadBps: uint16(place >> 168)
        });
    }
}

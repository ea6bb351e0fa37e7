// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkStandings} from "./FairmarkStandings.sol";

/// @title What services, operators and explorers read: whole groups, rotations, candidates
/// @dev In the governing half: whoever asks these seldom asks them from a contract.
abstract contract FairmarkOverviews is FairmarkStandings {
    /// @notice See `IFairmarkOracle`.
    // solhint-disable-next-line use-natspec
    function groupInfo(bytes32 group) external view returns (GroupInfo memory info) {
        uint256 number = _numbers[group];
        if (number == 0) revert UnknownGroup(group);
        uint256 header = _sload(_headerAt(number));
        address blob = address(uint160(header >> 96));
        if (header & ROTATING != 0) {
            uint256 rotation = _sload(_headerAt(number) + 3);
            if (block.timestamp >= (rotation >> 48) & 0xffffffffffff) {
                blob = address(uint160(rotation >> 96));
                info.set = 1;
            }
        }
        uint256 facts = _facts(blob);
        info.group = group;
        info.number = uint16(number);
        info.version = uint32(facts >> 208);
        info.groupHash = bytes32(_blobBytes(blob, 0, 32));
        info.round = uint64(_round(header));
        info.lastMoment = uint48(_lastMoment(header));
        (, info.acceptedBlock,) = _roundInfo(group, info.round);
        info.threshold = uint8(facts >> 168);
        info.f = uint8(facts >> 160);
        info.maxAgeMs = uint32(facts >> 176);
        info.paused = header & HALTED != 0;
        info.blockTimestamp = block.timestamp;
        info.signers = _signersIn(blob, facts);
        bytes32[] memory ids = _idsIn(blob, facts);
        info.feeds = new FeedConfig[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            info.feeds[i] = _config(ids[i], _places[ids[i]]);
        }
    }

    /// @notice See `IFairmarkOracle`.
    // solhint-disable-next-line use-natspec
    function readGroup(bytes32 group) external view returns (GroupReading memory reading) {
        uint256 number = _numbers[group];
        if (number == 0) revert UnknownGroup(group);
        uint256 header = _sload(_headerAt(number));
        address blob = address(uint160(header >> 96));
        uint256 facts = _facts(blob);
        reading.groupHash = bytes32(_blobBytes(blob, 0, 32));
        reading.version = uint32(facts >> 208);
        reading.round = uint64(_round(header));
        reading.moment = uint48(_lastMoment(header));
        (, reading.acceptedBlock,) = _roundInfo(group, reading.round);
        reading.paused = header & HALTED != 0;
        reading.blockTimestamp = block.timestamp;
        bytes32[] memory ids = _idsIn(blob, facts);
        reading.feeds = new FeedReading[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            FeedReading memory one = reading.feeds[i];
            uint256 place = _places[ids[i]];
            one.id = ids[i];
            one.decimals = uint8(_decimals(place));
            one.heartbeat = uint32(place >> 136);
            one.staleAfter = uint32(_staleAfter(place));
            (uint256 position, uint256 word) = _standing(place);
            if (word == 0) continue;
            uint256 updatedAt;
            (one.status, updatedAt) = _judge(place, position, word);
            one.updatedAt = uint64(updatedAt);
            one.price = _value(word);
            one.round = uint64(_roundOf(word));
            one.moment = uint48(_freshMoment(place, word, header));
            one.spreadBps = uint16(_spreadOf(word));
            one.contributors = uint8(_contributorsOf(word));
        }
    }

    /// @notice A round's exact moment (milliseconds), the block that accepted it, and the hash of its reporters and roots,
    /// for the last 64 rounds. All zero where there is no such round.
    /// @param group the group's name
    /// @param round the group's
    /// @return moment milliseconds
    /// @return acceptedBlock its number
    /// @return evidence the first 20 bytes of the hash
    function roundInfo(bytes32 group, uint64 round)
        external
        view
        returns (uint48 moment, uint64 acceptedBlock, bytes20 evidence)
    {
        return _roundInfo(group, round);
    }

    /// @notice The signers that stand, ascending. `groupInfo` names those that reporters should sign as, which are the new
    /// ones where a rotation is due; these are the ones that `revoke` strikes from. Reverts `UnknownGroup`.
    /// @param group the group's name
    /// @return signers ascending
    /// @return f how many of them may lie or be silent
    /// @return threshold reports that a round of theirs needs
    function standingSigners(bytes32 group)
        external
        view
        returns (address[] memory signers, uint8 f, uint8 threshold)
    {
        uint256 number = _numbers[group];
        if (number == 0) revert UnknownGroup(group);
        address blob = address(uint160(_sload(_headerAt(number)) >> 96));
        uint256 facts = _facts(blob);
        return (_signersIn(blob, facts), uint8(facts >> 160), uint8(facts >> 168));
    }

    /// @notice A rotation under way: the new set's group hash, version and signers, and when it counts. All zero: none.
    /// @param group the group's name
    /// @return groupHash that the new set's reports carry
    /// @return version of the group's configuration
    /// @return signers ascending
    /// @return from when the new set's reports count, in seconds
    /// @return until when the old set's time may end, in seconds
    function rotationInfo(bytes32 group)
        external
        view
        returns (bytes32 groupHash, uint32 version, address[] memory signers, uint256 from, uint256 until)
    {
        uint256 number = _numbers[group];
        if (_sload(_headerAt(number)) & ROTATING == 0) return (0, 0, signers, 0, 0);
        uint256 rotation = _sload(_headerAt(number) + 3);
        address blob = address(uint160(rotation >> 96));
        uint256 facts = _facts(blob);
        return (
            bytes32(_blobBytes(blob, 0, 32)),
            uint32(facts >> 208),
            _signersIn(blob, facts),
            (rotation >> 48) & 0xffffffffffff,
            rotation & 0xffffffffffff
        );
    }

    /// @notice The candidate that waits for a feed; all zero where there is none.
    /// @param id the feed's name
    /// @return value scaled by the feed's decimals
    /// @return moment milliseconds
    /// @return spreadBps basis points
    /// @return contributors reporters
    /// @return round in which it came to wait
    function candidate(bytes32 id)
        external
        view
        returns (uint256 value, uint48 moment, uint16 spreadBps, uint8 contributors, uint64 round)
    {
        uint256 place = _known(id);
        if (!_waits(place)) return (0, 0, 0, 0, 0);
        uint256 word = _sload(CANDIDATES + ((place >> 240) << 8) + ((place >> 232) & 0xff));
        return (
            _value(word),
            uint48(_momentOf(word)),
            uint16(_spreadOf(word)),
            uint8(_contributorsOf(word)),
            uint64(_roundOf(word))
        );
    }

    /// @notice See `IFairmarkOracle`.
    // solhint-disable-next-line use-natspec
    function feedDescription(bytes32 id) external view returns (string memory) {
        _known(id);
        return _descriptions[id];
    }

    function _waits(uint256 place) internal view returns (bool) {
        uint256 spot = _headerAt(place >> 240);
        return _sload(spot) & ANY_PENDING != 0 && (_sload(spot + 2) >> ((place >> 232) & 0xff)) & 1 != 0;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {FairmarkStandings} from "./FairmarkStandings.sol";

// The tags stand in IFairmarkOracle.
// solhint-disable use-natspec

/// @title What is read, and what it is worth
abstract contract FairmarkReaders is FairmarkStandings {
    uint256 private constant MAX_WINDOW = 2 ** 24;

    // ------------------------------------------------------------------------------------------------ one price

    /// @notice See `IFairmarkOracle`.
    function getPrice(bytes32 id) external view returns (uint256 price, uint256 updatedAt) {
        (uint256 place,, uint256 word) = _usable(id);
        updatedAt = _timeOf(word);
        unchecked {
            uint256 staleAfter = _staleAfter(place);
            if (block.timestamp - updatedAt > staleAfter) {
                updatedAt = _updatedAt(place, word, _sload(_headerAt(_numberIn(place))));
                if (block.timestamp - updatedAt > staleAfter) revert StaleFeed(id, updatedAt, staleAfter);
            }
        }
        return (_value(word), updatedAt);
    }

    /// @notice See `IFairmarkOracle`.
    function getPriceNoOlderThan(bytes32 id, uint256 maxAge) external view returns (uint256 price, uint256 updatedAt) {
        (uint256 place,, uint256 word) = _usable(id);
        return (_value(word), _young(id, place, word, maxAge));
    }

    /// @notice See `IFairmarkOracle`.
    function getPriceChecked(bytes32 id, uint256 maxAge, uint256 maxSpreadBps, uint256 minContributors)
        external
        view
        returns (uint256 price, uint256 updatedAt)
    {
        (uint256 place,, uint256 word) = _usable(id);
        updatedAt = _young(id, place, word, maxAge);
        uint256 spread = _spreadOf(word);
        if (spread > maxSpreadBps) revert SpreadTooWide(id, spread, maxSpreadBps);
        uint256 contributors = _contributorsOf(word);
        if (contributors < minContributors) revert TooFewContributors(id, contributors, minContributors);
        if (_isPending(place, _sload(_headerAt(_numberIn(place))))) revert FeedPending(id);
        return (_value(word), updatedAt);
    }

    /// @notice See `IFairmarkOracle`.
    function tryGetPrice(bytes32 id)
        public
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors)
    {
        uint256 place = _places[id];
        if (place == 0) return (Status.Unknown, 0, 0, 0, 0);
        (uint256 position, uint256 word) = _standing(place);
        if (word == 0) return (Status.Unset, 0, 0, 0, 0);
        (status, updatedAt) = _judge(place, position, word);
        return (status, _value(word), updatedAt, uint16(_spreadOf(word)), uint8(_contributorsOf(word)));
    }

    /// @notice See `IFairmarkOracle`.
    function latestAnswer(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 startedAt, uint256 updatedAt, uint64 round)
    {
        uint256 place = _known(id);
        (uint256 position, uint256 word) = _standing(place);
        if (word == 0) return (Status.Unset, 0, 0, 0, 0);
        (status, updatedAt) = _judge(place, position, word);
        return (status, _value(word), _timeOf(word), updatedAt, uint64(_roundOf(word)));
    }

    // ------------------------------------------------------------------------------------------------ several

    /// @notice See `IFairmarkOracle`.
    function tryGetPrices(bytes32[] calldata ids)
        external
        view
        returns (Status[] memory statuses, uint256[] memory prices, uint256[] memory updatedAts)
    {
        statuses = new Status[](ids.length);
        prices = new uint256[](ids.length);
        updatedAts = new uint256[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            (statuses[i], prices[i], updatedAts[i],,) = tryGetPrice(ids[i]);
        }
    }

    /// @notice See `IFairmarkOracle`.
    function getPrices(bytes32[] calldata ids)
        external
        view
        returns (uint256[] memory prices, uint64 round, uint256 updatedAt)
    {
        prices = new uint256[](ids.length);
        uint256 number = 0;
        for (uint256 i = 0; i < ids.length; ++i) {
            (prices[i], number, round, updatedAt) = _ofLastRound(ids[i], number);
        }
    }

    /// @notice See `IFairmarkOracle`.
    function crossRate(bytes32 base, bytes32 quote, uint8 decimals)
        external
        view
        returns (uint256 price, uint256 updatedAt)
    {
        (uint256 above, uint256 number,, uint256 time) = _ofLastRound(base, 0);
        (uint256 below,,,) = _ofLastRound(quote, number);
        uint256 power = uint256(decimals) + _decimals(_places[quote]);
        uint256 less = _decimals(_places[base]);
        price = power >= less ? above * 10 ** (power - less) / below : above / 10 ** (less - power) / below;
        return (price, time);
    }

    /// @dev A feed written or attested in the last round of group `number` (0: of whichever it is in), and fresh.
    function _ofLastRound(bytes32 id, uint256 number) private view returns (uint256, uint256, uint64, uint256) {
        (uint256 place,, uint256 word) = _usable(id);
        if (number != 0 && _numberIn(place) != number) revert NotOneRound(id);
        uint256 header = _sload(_headerAt(_numberIn(place)));
        if (_roundOf(word) != _round(header) && !_isAttested(place, header)) revert NotOneRound(id);
        uint256 updatedAt = _groupTime(header);
        uint256 staleAfter = _staleAfter(place);
        if (block.timestamp - updatedAt > staleAfter) revert StaleFeed(id, updatedAt, staleAfter);
        return (_value(word), _numberIn(place), uint64(_round(header)), updatedAt);
    }

    // ------------------------------------------------------------------------------------------------ history

    /// @notice See `IFairmarkOracle`.
    function getRoundData(bytes32 id, uint64 round)
        external
        view
        returns (uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors)
    {
        uint256 word = _lastWhere(_known(id), round, true);
        if (word == 0 || _roundOf(word) != round) revert NoAnswer(id, round);
        return (_value(word), _timeOf(word), uint16(_spreadOf(word)), uint8(_contributorsOf(word)));
    }

    /// @notice See `IFairmarkOracle`.
    function priceAt(bytes32 id, uint256 time) external view returns (uint256 price, uint256 acceptedAt) {
        uint256 place = _known(id);
        if (time > block.timestamp) revert HistoryTooShort(id, time);
        uint256 word = _lastWhere(place, time, false);
        if (word == 0) revert HistoryTooShort(id, time);
        return (_value(word), _timeOf(word));
    }

    /// @notice See `IFairmarkOracle`.
    function twap(bytes32 id, uint256 window) external view returns (uint256 price) {
        (uint256 place,, uint256 word) = _usable(id);
        if (window == 0 || window >= MAX_WINDOW || window > block.timestamp) revert BadWindow(window);
        uint256 start = block.timestamp - window;
        uint256 first = _lastWhere(place, start, false);
        if (first == 0) revert HistoryTooShort(id, start);
        unchecked {
            return ((_cumulativeAt(word, block.timestamp) - _cumulativeAt(first, start)) & (2 ** 88 - 1)) / window;
        }
    }

    function _cumulativeAt(uint256 word, uint256 time) private pure returns (uint256) {
        unchecked {
            return _cumulativeOf(word) + _value(word) * (time - _timeOf(word));
        }
    }

    /// @dev The newest answer whose round (or time) is at most `most`; zero where the ring has none. The ring is in order
    /// from the place after the newest answer on; places never written hold zero, and those come first.
    function _lastWhere(uint256 place, uint256 most, bool byRound) private view returns (uint256 word) {
        unchecked {
            uint256 position;
            (position, word) = _standing(place);
            if (_rankOf(word, byRound) <= most) return word;
            uint256 base = _feedAt(_numberIn(place), _indexIn(place));
            // the answer looked for is the one before `high`, which is after `most`; the newest one is at RING - 1
            uint256 low = 0;
            uint256 high = RING - 1;
            while (low < high) {
                uint256 middle = (low + high) >> 1;
                uint256 one = _sload(base + ((position + 1 + middle) & 63));
                if (_rankOf(one, byRound) <= most) low = middle + 1;
                else high = middle;
            }
            if (low == 0) return 0;
            return _sload(base + ((position + low) & 63));
        }
    }

    function _rankOf(uint256 word, bool byRound) private pure returns (uint256) {
        if (word == 0) return 0;
        return byRound ? _roundOf(word) : _timeOf(word);
    }

    // ------------------------------------------------------------------------------------------------ evidence

    /// @notice See `IFairmarkOracle`.
    function verifyObservation(
        bytes32 group,
        uint64 round,
        address reporter,
        ReporterRoot[] calldata roots,
        bytes32 leaf,
        bytes32[] calldata proof
    ) external view returns (bool) {
        (, uint64 acceptedBlock, bytes20 evidence) = _roundInfo(group, round);
        if (acceptedBlock == 0) revert UnknownRound(group, round);
        bytes memory pairs = new bytes(roots.length << 6);
        bytes32 root = 0;
        for (uint256 j = 0; j < roots.length; ++j) {
            address one = roots[j].reporter;
            bytes32 its = roots[j].root;
            if (one == reporter) root = its;
            assembly ("memory-safe") {
                let spot := add(pairs, add(32, shl(6, j)))
                mstore(spot, one)
                mstore(add(spot, 32), its)
            }
        }
        if (bytes20(keccak256(pairs)) != evidence) revert WrongRoots(group, round);
        // a report without evidence has the root zero, and commits to nothing
        return root != 0 && MerkleProof.verifyCalldata(proof, root, leaf);
    }

    // ------------------------------------------------------------------------------------------------ parameters

    /// @notice See `IFairmarkOracle`.
    function feedInfo(bytes32 id)
        external
        view
        returns (bytes32 group, FeedConfig memory config, uint256 staleAfter)
    {
        uint256 place = _known(id);
        bytes memory name = _blobBytes(address(uint160(_sload(_headerAt(place >> 240)) >> 96)), 32, 32);
        return (bytes32(name), _config(id, place), _staleAfter(place));
    }
}

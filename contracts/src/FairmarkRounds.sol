// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkMedians} from "./FairmarkMedians.sol";
import {FairmarkReports} from "./FairmarkReports.sol";

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
abstract contract FairmarkRounds is FairmarkReports, FairmarkMedians {
    /// @notice A round was accepted. Bit i of `written`: the group's feed i has a new answer; of `attested`: its standing
    /// answer was attested.
    /// @param group the group's name
    /// @param round the group's, from 1 on
    /// @param moment milliseconds
    /// @param written bits of feeds
    /// @param attested bits of feeds
    event RoundAccepted(
        bytes32 indexed group, uint64 indexed round, uint48 moment, uint256 written, uint256 attested
    );
    /// @notice Candidates came to wait, or were confirmed or cleared. Bit i of `pending`: one waits for feed i.
    /// @param group the group's name
    /// @param round the group's
    /// @param pending bits of feeds
    event CandidatesChanged(bytes32 indexed group, uint64 indexed round, uint256 pending);

    /// @dev Returns false only when `quiet` and the group has moved on.
    function _submit(bytes calldata payload, bool quiet) internal returns (bool) {
        // Memory is zero where nobody has written: a place for the job costs less than one that is cleared.
        Job[] memory jobs;
        assembly ("memory-safe") {
            jobs := mload(0x40)
            mstore(jobs, 1)
            mstore(add(jobs, 32), add(jobs, 64))
            mstore(0x40, add(add(jobs, 64), JOB))
        }
        Job memory job = jobs[0];
        uint256 header;
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
            uint256 number = word >> 240;
            uint256 moment = (word >> 136) & 0xffffffffffff;
            previousMoment = (word >> 184) & 0xffffffffffff;
            (job.number, job.moment, job.k) = (number, moment, (word >> 128) & 0xff);
            header = _sload(_headerAt(number));
            if (header >> 96 == 0) revert UnknownGroup(bytes32(number));
            uint256 last = _lastMoment(header);
            if (previousMoment != last || moment <= last) {
                if (quiet && (moment <= last || previousMoment < last)) return false;
                if (previousMoment != last) revert UnexpectedPreviousMoment(uint48(last), uint48(previousMoment));
                revert MomentNotLater(uint48(last), uint48(moment));
            }
            if (header & HALTED != 0) revert OraclePaused();
            address blob = address(uint160(header >> 96));
            uint256 set = (word >> 232) & 0xff;
            if (set != 0) (blob, header) = _rotated(number, header, set);
            job.blob = blob;
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

    function _finish(Job memory job, bytes32 group) private {
        unchecked {
            assembly ("memory-safe") {
                // the rows are done with: where they were never touched, memory behind them need not be paid for
                mstore(0x40, mload(add(job, PRICES)))
            }
            uint256 spot = _headerAt(job.number);
            uint256 header = job.header;
            uint256 flags = header & (0xff & ~(ANY_ATTESTED | ALL_ATTESTED));
            uint256 attested = job.attested;
            if (attested != 0) {
                flags |= ANY_ATTESTED;
                if (attested == type(uint256).max >> (256 - job.feeds)) flags |= ALL_ATTESTED;
                else if (header & ALL_ATTESTED != 0 || attested != job.wasAttested) _sstore(spot + 1, attested);
            }
            uint256 pending = job.pending;
            if (pending != job.wasPending) {
                _sstore(spot + 2, pending);
                flags = pending == 0 ? flags & ~ANY_PENDING : flags | ANY_PENDING;
                emit CandidatesChanged(group, uint64(job.round), pending);
            }
            _sstore(spot, (header >> 96 << 96) | (job.moment << 48) | (job.round << 16) | (job.ahead << 8) | flags);
            emit RoundAccepted(group, uint64(job.round), uint48(job.moment), job.written, attested);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {FairmarkJob} from "./FairmarkJob.sol";

/// @title Reports: who signed what
/// @dev The layout of a report is drawn in `FairmarkRounds`.
abstract contract FairmarkReports is FairmarkJob, EIP712 {
    /// @dev Half the order of secp256k1.
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @dev Checks moment and signatures, lays out the prices in memory, keeps the evidence.
    function _checkReports(Job memory job, uint256 previousMoment) internal returns (bytes32 group) {
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
                // most sets have at most 16 signers: head and signers come in one copy
                extcodecopy(blob, head, 1, 432)
                groupHash := mload(head)
                group := mload(add(head, 32))
                facts := mload(add(head, 64))
                mstore(add(job, ZEROS), mload(add(head, 80)))
                signers := add(head, 112)
                n := and(shr(152, facts), 0xff)
                s := add(head, 464) // 32 more, to read beyond the last signer
                if gt(n, 16) {
                    extcodecopy(blob, signers, 113, mul(n, 20))
                    s := add(s, shl(5, sub(n, 16)))
                }
                mstore(0x40, s)
            }
            job.feeds = ((facts >> 144) & 0xff) + 1;
            job.least = (facts >> 136) & 0xff;
            uint256 threshold = (facts >> 168) & 0xff;
            if (job.k < threshold) revert TooFewReports(job.k, threshold);
            _checkMoment(job, (facts >> 176) & 0xffffffff);
            bytes32 typehash = REPORT_TYPE;
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
        _recoverAll(job, s, signers, n);
    }

    function _checkMoment(Job memory job, uint256 maxAgeMs) private view {
        unchecked {
            uint256 moment = job.moment;
            uint256 nowMs = block.timestamp * 1000;
            if (moment > nowMs + AHEAD_MS) revert MomentInFuture(uint48(moment), nowMs);
            if (moment + maxAgeMs < nowMs) revert StaleMoment(uint48(moment), nowMs);
            uint256 time = moment / 1000;
            uint256 ahead = time > block.timestamp ? time - block.timestamp : 0;
            job.ahead = ahead;
            job.time = time - ahead;
            job.suffix = (moment << 150) | (ahead << 145) | (job.k << 121) | (job.round << 89);
        }
    }

    /// @dev s: 7 words of the struct, of which the first four stand; + 224: 2 + 32 + 32 bytes of the digest; + 320: 4 words
    /// for ecrecover; + 448: k pairs of reporter and root, k words of unchanged bits, k rows of prices.
    function _recoverAll(Job memory job, uint256 s, uint256 signers, uint256 n) private {
        unchecked {
            uint256 k = job.k;
            uint256 row;
            {
                uint256 unchanged = s + 448 + (k << 6);
                uint256 stride = ((job.feeds << 3) + 31) & ~uint256(31);
                row = unchanged + (k << 5);
                (job.unchanged, job.prices, job.stride) = (unchanged, row, stride);
                uint256 end = row + k * stride + 32;
                assembly ("memory-safe") {
                    mstore(0x40, end)
                }
            }
            job.all = type(uint256).max;
            uint256 cursor = job.cursor;
            uint256 least = 0; // the least index that may come next
            for (uint256 j = 0; j < k; ++j) {
                uint256 index;
                uint256 shape;
                assembly ("memory-safe") {
                    index := byte(0, calldataload(cursor))
                    shape := byte(0, calldataload(add(cursor, 97)))
                    // the evidence root, where it is hashed
                    mstore(add(s, 160), calldataload(add(cursor, 65)))
                }
                if (index >= n) revert NoSuchSigner(j, index);
                if (index < least) revert SignersNotAscending(j, least - 1, index);
                least = index + 1;
                uint256 next = cursor + 98;
                if (shape == 0) {
                    uint256 length = job.feeds << 3;
                    assembly ("memory-safe") {
                        mstore(add(job, ALL), 0)
                        calldatacopy(row, next, length)
                        mstore(add(s, 128), 0)
                        mstore(add(s, 192), keccak256(row, length))
                        next := add(next, length)
                    }
                } else if (shape == 2) {
                    uint256 bits = type(uint256).max >> (256 - job.feeds);
                    (job.any, job.all) = (bits, job.all & bits);
                    uint256 place = job.unchanged + (j << 5);
                    bytes32 zeros = job.zeros;
                    assembly ("memory-safe") {
                        mstore(place, bits)
                        mstore(add(s, 128), bits)
                        mstore(add(s, 192), zeros)
                    }
                } else {
                    if (shape != 1) revert BadReport(j);
                    next = _readSparse(job, j, next, row, s);
                }
                row += job.stride;
                uint256 lower;
                address signer;
                address expected;
                assembly ("memory-safe") {
                    mstore(add(s, 258), keccak256(s, 224))
                    let input := add(s, 320)
                    mstore(input, keccak256(add(s, 224), 66))
                    let vs := calldataload(add(cursor, 33))
                    mstore(add(input, 32), add(27, shr(255, vs)))
                    mstore(add(input, 64), calldataload(add(cursor, 1)))
                    lower := shr(1, shl(1, vs))
                    mstore(add(input, 96), lower)
                    mstore(0, 0)
                    pop(staticcall(gas(), 1, input, 128, 0, 32))
                    signer := mload(0)
                    expected := shr(96, mload(add(signers, mul(index, 20))))
                    let pair := add(add(s, 448), shl(6, j))
                    mstore(pair, expected)
                    mstore(add(pair, 32), mload(add(s, 160)))
                }
                if (lower > HALF_ORDER) revert MalleableSignature(j);
                // a set has no zero address, which is what a signature by nobody recovers to
                if (signer != expected) revert UnknownSigner(j, signer);
                cursor = next;
            }
            job.cursor = cursor;
            uint256 evidence;
            assembly ("memory-safe") {
                evidence := keccak256(add(s, 448), shl(6, k))
            }
            _sstore(
                EVIDENCE + (job.number << 6) + (job.round & 63),
                (evidence >> 96 << 96) | (job.moment << 48) | block.number
            );
        }
    }

    /// @dev Report j's unchanged bits, and prices where they are not set, into memory; what is signed of them where the
    /// struct wants it. Returns where the report ends.
    function _readSparse(Job memory job, uint256 j, uint256 cursor, uint256 row, uint256 s)
        private
        pure
        returns (uint256)
    {
        unchecked {
            uint256 mask = type(uint256).max >> (256 - job.feeds);
            uint256 bits;
            uint256 unchanged = job.unchanged + (j << 5);
            assembly ("memory-safe") {
                bits := calldataload(cursor)
                mstore(unchanged, bits)
                mstore(add(s, 128), bits)
            }
            if (bits & ~mask != 0) revert BadReport(j);
            cursor += 32;
            job.any |= bits;
            job.all &= bits;
            uint256 length = job.feeds << 3;
            // memory that nobody has written yet is zero: so are the prices that are not here
            uint256 to = row;
            for (uint256 left = ~bits & mask; left != 0; left >>= 1) {
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
            assembly ("memory-safe") {
                mstore(add(s, 192), keccak256(row, length))
            }
            return cursor;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Records} from "./Records.sol";

/// @title Kinds
/// @notice Every kind of record that ledger/records.py defines (E1), read by contracts or not.
library Kinds {
    /// @notice Whether a record may begin with this word.
    function isKind(bytes32 kind) internal pure returns (bool) {
        return kind == Records.CONTRACT
            || kind == Records.PARAMETER
            || kind == Records.SEAT
            || kind == Records.QUORUM
            || kind == Records.ASSET
            || kind == Records.ACCOUNT
            || kind == Records.REVENUE_RULE
            || kind == Records.PROJECT
            || kind == Records.ALLOCATION
            || kind == Records.COMMITMENT
            || kind == Records.MILESTONE
            || kind == Records.CERTIFICATE
            || kind == Records.ORDER
            || kind == Records.TRANSFER
            || kind == Records.REFUND
            || kind == Records.DISPUTE
            || kind == Records.RESOLUTION
            || kind == Records.ACKNOWLEDGEMENT
            || _isOther(kind);
    }

    /// @dev The kinds that no contract reads.
    function _isOther(bytes32 kind) private pure returns (bool) {
        if (
            kind
                == keccak256(
                    "Genesis(uint64 time,bytes32 ledger,uint64 retentionEnd,uint256 chainId,address council,address anchor,bytes32 legalRef,bytes32 founding)"
                )
        ) return true;
        if (kind == keccak256("Rules(uint64 time,bytes32 sha256,uint64 validFrom,bytes32 act)")) return true;
        if (
            kind
                == keccak256(
                    "Rate(uint64 time,bytes32 asset,uint128 numerator,uint128 denominator,bytes32 source1,bytes32 source2)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Block(uint64 time,bytes32 block,bytes32 fund,uint16 fromYear,uint16 toYear,uint128 limit,bytes32 act)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Approval(uint64 time,bytes32 approves,address signer,uint64 validUntil,uint8 v,bytes32 r,bytes32 s)"
                )
        ) return true;
        if (kind == keccak256("Investment(uint64 time,bytes32 project,uint128 amount,bytes32 document)")) return true;
        if (
            kind
                == keccak256(
                    "Release(uint64 time,bytes32 commitmentHash,uint128 amount,bytes32 document)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Move(uint64 time,bytes32 fromHash,bytes32 toHash,uint128 amount,bytes32 document)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Exchange(uint64 time,bytes32 id,bytes32 fromAccount,bytes32 toAccount,uint128 amountFrom,uint128 amountTo,bytes32 rateHash,bytes32 evidence)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Reversal(uint64 time,bytes32 id,uint64 index,bytes32 reason,bytes32 evidence)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Statement(uint64 time,bytes32 account,uint64 asOf,uint128 opening,uint128 closing,bytes32 evidence)"
                )
        ) return true;
        if (kind == keccak256("Close(uint64 time,uint16 year,bytes32 stateHash)")) return true;
        if (
            kind
                == keccak256(
                    "KeyChange(uint64 time,bytes32 key,bytes32 vkeyHash,uint64 validFrom,bytes32 act)"
                )
        ) return true;
        if (
            kind
                == keccak256(
                    "Withdrawal(uint64 time,bytes32 approves,address signer,uint8 v,bytes32 r,bytes32 s)"
                )
        ) return true;
        return false;
    }
}

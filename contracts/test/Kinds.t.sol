// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Kinds} from "../src/Kinds.sol";
import {Assertions} from "./Vm.sol";

contract KindsTest is Assertions {
    function test_each_kind_of_the_ledger_is_known() external pure {
        _known("Genesis(uint64 time,bytes32 ledger,uint64 retentionEnd,uint256 chainId,address council,address anchor,bytes32 legalRef,bytes32 founding)");
        _known("Rules(uint64 time,bytes32 sha256,uint64 validFrom,bytes32 act)");
        _known("Contract(uint64 time,bytes32 name,uint256 chainId,address at,bytes32 codeHash,bytes32 act)");
        _known("Parameter(uint64 time,bytes32 name,uint128 value,uint64 validFrom,bytes32 act)");
        _known("Seat(uint64 time,bytes32 role,address holder,uint64 validFrom,uint64 validTo,bytes32 act)");
        _known("Quorum(uint64 time,bytes32 role,uint8 needed,bytes32 act)");
        _known("Asset(uint64 time,bytes32 asset,uint8 decimals,uint256 chainId,address token,uint64 validFrom,uint64 validTo,bytes32 act)");
        _known("Account(uint64 time,bytes32 account,bytes32 asset,bytes32 fund,bytes32 kind,bytes32 owner,bytes32 party,bytes32 act)");
        _known("RevenueRule(uint64 time,bytes32 code,bytes32 fund,uint16 minShare,uint64 validFrom,bytes32 act)");
        _known("Rate(uint64 time,bytes32 asset,uint128 numerator,uint128 denominator,bytes32 source1,bytes32 source2)");
        _known("Block(uint64 time,bytes32 block,bytes32 fund,uint16 fromYear,uint16 toYear,uint128 limit,bytes32 act)");
        _known("Project(uint64 time,bytes32 project,bytes32 sector,bytes32 place,uint128 limit,bytes32 document)");
        _known("Allocation(uint64 time,bytes32 allocation,bytes32 block,bytes32 projectHash,bytes32 asset,uint128 amount,bytes32 rateHash,bytes32 act)");
        _known("Commitment(uint64 time,bytes32 commitment,bytes32 allocationHash,bytes32 payee,uint128 amount,bytes32 document)");
        _known("Milestone(uint64 time,bytes32 milestone,bytes32 commitmentHash,uint128 amount,bytes32 document)");
        _known("Certificate(uint64 time,bytes32 milestoneHash,uint128 amount,uint8 accepted,bytes32 document)");
        _known("Order(uint64 time,bytes32 order,bytes32 commitmentHash,bytes32 allocationHash,bytes32 certificateHash,bytes32 account,uint128 amount,bytes32 payee)");
        _known("Approval(uint64 time,bytes32 approves,address signer,uint64 validUntil,uint8 v,bytes32 r,bytes32 s)");
        _known("Transfer(uint64 time,bytes32 id,bytes32 debit,bytes32 credit,bytes32 asset,uint128 amount,bytes32 purpose,bytes32 authority,bytes32 evidence,bytes32 refundTo)");
        _known("Investment(uint64 time,bytes32 project,uint128 amount,bytes32 document)");
        _known("Release(uint64 time,bytes32 commitmentHash,uint128 amount,bytes32 document)");
        _known("Move(uint64 time,bytes32 fromHash,bytes32 toHash,uint128 amount,bytes32 document)");
        _known("Exchange(uint64 time,bytes32 id,bytes32 fromAccount,bytes32 toAccount,uint128 amountFrom,uint128 amountTo,bytes32 rateHash,bytes32 evidence)");
        _known("Refund(uint64 time,bytes32 id,bytes32 receiptHash,uint128 amount,bytes32 to,bytes32 document)");
        _known("Reversal(uint64 time,bytes32 id,uint64 index,bytes32 reason,bytes32 evidence)");
        _known("Statement(uint64 time,bytes32 account,uint64 asOf,uint128 opening,uint128 closing,bytes32 evidence)");
        _known("Dispute(uint64 time,bytes32 commitmentHash,address by,bytes32 document)");
        _known("Resolution(uint64 time,bytes32 commitmentHash,uint8 outcome,bytes32 document)");
        _known("Acknowledgement(uint64 time,uint64 index,bytes32 rule,bytes32 act)");
        _known("Close(uint64 time,uint16 year,bytes32 stateHash)");
        _known("KeyChange(uint64 time,bytes32 key,bytes32 vkeyHash,uint64 validFrom,bytes32 act)");
        _known("Withdrawal(uint64 time,bytes32 approves,address signer,uint8 v,bytes32 r,bytes32 s)");
    }

    function testFuzz_nothing_else_is(bytes32 word) external pure {
        isTrue(!Kinds.isKind(keccak256(abi.encode(word))));
    }

    function _known(string memory kind) private pure {
        isTrue(Kinds.isKind(keccak256(bytes(kind))));
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {Money} from "../src/Money.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {City} from "./City.sol";
import {Closed, HostileToken} from "./HostileTokens.sol";
import {vm} from "./Vm.sol";

/// @notice A city with a project, money and payees, and orders that are payable now.
abstract contract Spending is City {
    uint128 internal constant AMOUNT = 400;
    uint128 internal constant COMMITTED = 1_000;
    uint128 internal constant ALLOTTED = 1_500;

    HostileToken internal hostile;
    Closed internal closed;
    bytes32 internal projectHash;
    uint64 internal number;

    function setUp() public virtual override {
        super.setUp();
        hostile = new HostileToken();
        closed = new Closed();
        enactContract("treasury", address(treasury));
        enactAsset("TKZT", address(token));
        enactAsset("HOST", address(hostile));
        enactAsset("COIN", Money.COIN);
        enactAccount("t-tkzt", "TKZT", Names.CHAIN, address(treasury));
        enactAccount("t-host", "HOST", Names.CHAIN, address(treasury));
        enactAccount("t-coin", "COIN", Names.CHAIN, address(treasury));
        enactAccount("builder", "TKZT", Names.PAYEE, builder);
        enactAccount("republic", "TKZT", Names.REPUBLIC, republic);
        enactAccount("h-builder", "HOST", Names.PAYEE, builder);
        enactAccount("closed", "COIN", Names.PAYEE, address(closed));
        bytes memory project = abi.encode(Records.PROJECT, Records.Project(START, "p", "water", "alatau-gate", 9, ACT));
        enact(project);
        projectHash = keccak256(project);
        token.mint(address(treasury), 10_000);
        hostile.mint(address(treasury), 10_000);
        vm.deal(address(treasury), 10_000);
        vm.warp(START + 14 days);
    }

    function _payable(bytes32 asset, bytes32 from, bytes32 payee)
        internal
        returns (ITreasury.Execution memory execution)
    {
        bytes32 name = bytes32(bytes1(uint8(0x61 + ++number)));
        bytes memory allocation = abi.encode(
            Records.ALLOCATION, Records.Allocation(START, name, "b", projectHash, asset, ALLOTTED, ACT, ACT)
        );
        enact(allocation);
        execution.commitment = Records.Commitment(START, name, keccak256(allocation), payee, COMMITTED, ACT);
        execution.milestone = Records.Milestone(START, name, _hash(execution.commitment), AMOUNT, ACT);
        execution.certificate.document = ACT;
        execution.certificate.amount = AMOUNT;
        execution.certificate.accepted = 1;
        execution.order =
            Records.Order(START, name, _hash(execution.commitment), keccak256(allocation), 0, from, AMOUNT, payee);
        _relink(execution);
    }

    function _relink(ITreasury.Execution memory execution) internal {
        execution.certificate.milestoneHash = _hash(execution.milestone);
        execution.order.certificateHash = _hash(execution.certificate);
        _sign(execution);
    }

    /// @dev Sign the order and the certificate, record and anchor the order, and wait for its delay.
    function _sign(ITreasury.Execution memory execution) internal {
        bytes memory order = abi.encode(Records.ORDER, execution.order);
        execution.orderApprovals = _approvals(AUTHORITY, Records.APPROVE_ORDER, order);
        execution.certificateApprovals =
            _approvals(CERTIFIER, Records.APPROVE_CERTIFICATE, abi.encode(Records.CERTIFICATE, execution.certificate));
        execution.index = add(order);
        publish();
        (execution.headSize, execution.headTime) = (anchor.head().size, anchor.head().time);
        execution.proof = path(execution.index);
        vm.warp(block.timestamp + 1 days);
    }

    function _approvals(uint256 key, bytes32 approveTypeHash, bytes memory record)
        internal
        view
        returns (Signature[] memory)
    {
        return approve(keys1(key), approveTypeHash, record, FOREVER);
    }

    function _refused(ITreasury.Execution memory execution, bytes memory refusal) internal {
        vm.expectRevert(refusal);
        treasury.execute(execution);
    }

    function _hash(Records.Order memory record) internal pure returns (bytes32) {
        return keccak256(abi.encode(Records.ORDER, record));
    }

    function _hash(Records.Commitment memory record) internal pure returns (bytes32) {
        return keccak256(abi.encode(Records.COMMITMENT, record));
    }

    function _hash(Records.Milestone memory record) internal pure returns (bytes32) {
        return keccak256(abi.encode(Records.MILESTONE, record));
    }

    function _hash(Records.Certificate memory record) internal pure returns (bytes32) {
        return keccak256(abi.encode(Records.CERTIFICATE, record));
    }
}

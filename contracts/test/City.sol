// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Council} from "../src/Council.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {LedgerAnchor} from "../src/LedgerAnchor.sol";
import {Names} from "../src/Names.sol";
import {PaymentRouter} from "../src/PaymentRouter.sol";
import {Records, Signature} from "../src/Records.sol";
import {Treasury} from "../src/Treasury.sol";
import {Watchdog} from "../src/Watchdog.sol";
import {Reference} from "./Reference.sol";
import {TestToken} from "./TestToken.sol";
import {Assertions, vm} from "./Vm.sol";

/// @notice A founded city for the tests: real contracts, keys 1 to 5 for the Council, one for each other office.
abstract contract City is Assertions {
    uint256 internal constant AUTHORITY = 11;
    uint256 internal constant CERTIFIER = 12;
    uint256 internal constant AUDITOR = 13;
    uint256 internal constant WATCHER = 14;
    uint256 internal constant OPERATOR = 15;
    uint256 internal constant GATEWAY = 16;
    uint256 internal constant STRANGER = 99;

    uint64 internal constant START = 1_790_000_000;
    uint64 internal constant RETENTION_END = START + 4_000 days;
    uint64 internal constant FOREVER = START + 40_000 days;
    bytes32 internal constant LEDGER = keccak256("ledger");
    bytes32 internal constant ACT = keccak256("act");

    Council internal council;
    LedgerAnchor internal anchor;
    Treasury internal treasury;
    Watchdog internal watchdog;
    PaymentRouter internal router;
    TestToken internal token;
    bytes32[] internal leaves;
    address internal builder = vm.addr(1_001);
    address internal merchant = vm.addr(1_002);
    address internal republic = vm.addr(1_003);

    function setUp() public virtual {
        vm.warp(START);
        council = new Council(LEDGER, RETENTION_END, foundingSeats(), foundingQuorums());
        anchor = LedgerAnchor(address(council.anchor()));
        watchdog = new Watchdog(council);
        treasury = new Treasury(council, watchdog);
        router = new PaymentRouter(council, address(treasury));
        token = new TestToken("Test tenge", "TKZT");
        same(address(anchor.council()), address(council));
    }

    function foundingSeats() internal pure returns (Records.Seat[] memory seats) {
        seats = new Records.Seat[](11);
        for (uint256 key = 1; key <= 5; ++key) {
            seats[key - 1] = seat(Names.COUNCIL, key);
        }
        seats[5] = seat(Names.AUTHORITY, AUTHORITY);
        seats[6] = seat(Names.CERTIFIER, CERTIFIER);
        seats[7] = seat(Names.AUDITOR, AUDITOR);
        seats[8] = seat(Names.WATCHER, WATCHER);
        seats[9] = seat(Names.OPERATOR, OPERATOR);
        seats[10] = seat(Names.GATEWAY, GATEWAY);
    }

    function foundingQuorums() internal pure returns (Records.Quorum[] memory quorums) {
        quorums = new Records.Quorum[](1);
        quorums[0] = Records.Quorum(START, Names.COUNCIL, 3, ACT);
    }

    function seat(bytes32 role, uint256 key) internal pure returns (Records.Seat memory) {
        return Records.Seat(START, role, vm.addr(key), START, FOREVER, ACT);
    }

    // --- the ledger ---

    function add(bytes memory record) internal returns (uint64 index) {
        leaves.push(Reference.leaf(record));
        return uint64(leaves.length - 1);
    }

    function publish() internal {
        uint64 old = anchor.head().size;
        uint64 size = uint64(leaves.length);
        bytes32 root = Reference.root(leaves, 0, size);
        bytes32[] memory proof = old == 0 ? new bytes32[](0) : Reference.consistency(old, leaves, 0, size, true);
        Signature memory signature = witness(WATCHER, size, root, FOREVER);
        vm.prank(vm.addr(OPERATOR));
        anchor.append(size, root, proof, signature.validUntil, signature.r, compact(signature.v, signature.s));
    }

    function path(uint64 index) internal view returns (bytes32[] memory) {
        return Reference.path(index, leaves, 0, anchor.head().size);
    }

    // --- signatures ---

    function sign(uint256 key, bytes32 structHash, uint64 validUntil) internal view returns (Signature memory) {
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return Signature(vm.addr(key), validUntil, v, r, s);
    }

    function witness(uint256 key, uint64 size, bytes32 root, uint64 until) internal view returns (Signature memory) {
        bytes32 kind = keccak256("Head(uint64 size,bytes32 root,uint64 validUntil)");
        return sign(key, keccak256(abi.encode(kind, size, root, until)), until);
    }

    /// @dev The second word of a compact signature (EIP-2098).
    function compact(uint8 v, bytes32 s) internal pure returns (bytes32) {
        return bytes32((uint256(v - 27) << 255) | uint256(s));
    }

    function approve(uint256[] memory keys, bytes32 approveTypeHash, bytes memory record, uint64 until)
        internal
        view
        returns (Signature[] memory approvals)
    {
        approvals = new Signature[](keys.length);
        for (uint256 i = 0; i < keys.length; ++i) {
            approvals[i] = sign(keys[i], keccak256(abi.encode(approveTypeHash, keccak256(record), until)), until);
        }
        // Contracts want them ascending by signer.
        for (uint256 i = 1; i < keys.length; ++i) {
            for (uint256 j = i; j > 0 && approvals[j].signer < approvals[j - 1].signer; --j) {
                (approvals[j], approvals[j - 1]) = (approvals[j - 1], approvals[j]);
            }
        }
    }

    function keys1(uint256 key) internal pure returns (uint256[] memory keys) {
        keys = new uint256[](1);
        keys[0] = key;
    }

    function keys3(uint256 first, uint256 second, uint256 third) internal pure returns (uint256[] memory keys) {
        keys = new uint256[](3);
        (keys[0], keys[1], keys[2]) = (first, second, third);
    }

    // --- acts ---

    /// @dev Record, anchor and enact, by three of the Council.
    function enact(bytes memory record) internal returns (uint64 index) {
        index = add(record);
        publish();
        bring(record, index);
    }

    /// @dev The same, expecting the Council to refuse with this.
    function enactRefused(bytes memory record, bytes memory refusal) internal {
        uint64 index = add(record);
        publish();
        ILedgerAnchor.Head memory head = anchor.head();
        bytes32[] memory proof = path(index);
        Signature[] memory approvals = councillors(record);
        vm.expectRevert(refusal);
        council.enact(record, index, head.size, head.time, proof, approvals);
    }

    function bring(bytes memory record, uint64 index) internal {
        bring(record, index, councillors(record));
    }

    function bring(bytes memory record, uint64 index, Signature[] memory approvals) internal {
        ILedgerAnchor.Head memory head = anchor.head();
        council.enact(record, index, head.size, head.time, path(index), approvals);
    }

    function councillors(bytes memory record) internal view returns (Signature[] memory) {
        (bytes32 approveTypeHash,) = Records.enactable(bytes32(record));
        return approve(keys3(1, 2, 3), approveTypeHash, record, FOREVER);
    }

    function enactContract(bytes32 name, address place) internal {
        enact(abi.encode(Records.CONTRACT, Records.Contract(START, name, block.chainid, place, place.codehash, ACT)));
    }

    function enactAsset(bytes32 name, address token_) internal {
        enact(abi.encode(Records.ASSET, Records.Asset(START, name, 6, block.chainid, token_, START, FOREVER, ACT)));
    }

    function enactAccount(bytes32 name, bytes32 asset, bytes32 kind, address owner) internal {
        enact(abi.encode(Records.ACCOUNT, account(name, asset, kind, owner)));
    }

    function account(bytes32 name, bytes32 asset, bytes32 kind, address owner)
        internal
        pure
        returns (Records.Account memory)
    {
        bytes32 word = bytes32(uint256(uint160(owner)));
        return Records.Account(START, name, asset, Names.RETAINED, kind, word, keccak256("party"), ACT);
    }

    function enactShare(bytes32 code, uint16 share) internal {
        enact(abi.encode(Records.REVENUE_RULE, Records.RevenueRule(START, code, Names.RETAINED, share, START, ACT)));
    }

    function enactParameter(bytes32 name, uint128 value) internal {
        enact(abi.encode(Records.PARAMETER, Records.Parameter(START, name, value, START, ACT)));
    }
}

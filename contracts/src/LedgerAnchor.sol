// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Domain} from "./Domain.sol";
import {ICouncil} from "./interfaces/ICouncil.sol";
import {ILedgerAnchor} from "./interfaces/ILedgerAnchor.sol";
import {Names} from "./Names.sol";
import {Proofs} from "./Proofs.sol";
import {Signature} from "./Records.sol";

/// @title LedgerAnchor
/// @notice See ILedgerAnchor.
contract LedgerAnchor is ILedgerAnchor, Domain {
    /// @dev Heads larger or later than this one, up to the time of the resumption, are void.
    struct Gap {
        uint64 size;
        uint64 time;
        uint64 until;
    }

    bytes32 internal constant HEAD = keccak256("Head(uint64 size,bytes32 root,uint64 validUntil)");
    // No act of the Council changes a seat with less notice than this, so what is asked once in a period holds in it.
    uint256 internal constant PERIOD = 14 days;

    bytes32 internal constant RESUMPTION =
        keccak256("Resumption(uint64 time,uint64 headSize,uint64 headTime,bytes32 root,bytes32 act)");
    bytes32 internal constant APPROVE_RESUMPTION = keccak256(
        "Approve(Resumption record,uint64 validUntil)Resumption(uint64 time,uint64 headSize,uint64 headTime,bytes32 root,bytes32 act)"
    );

    // The newest head in one word: its size (63 bits), its time (33 bits, until the year 2242), and a hash (160 bits) of
    // the operator and watcher who brought it and of the period, so that the same two need not be asked after again.
    uint256 private _newest;
    // Every head is kept, and not a ring of recent ones: an order is paid from a head that is at least order_delay old,
    // so with a ring whoever anchors often enough would make every order unpayable. The time is part of the place where a
    // root stands, so that one fresh word keeps both.
    mapping(uint256 sizeAndTime => bytes32 root) private _roots;
    // For each resumption: the head from which the log went on, and when it did.
    Gap[] private _gaps;
    // From when on a resumption may happen; the last second that there is once it has.
    mapping(bytes32 resumptionHash => uint64) private _resumableFrom;

    /// @dev Made by the Council in its constructor.
    constructor(ICouncil council_, bytes32 separator) Domain(council_, separator) {}

    /// @inheritdoc ILedgerAnchor
    function append(uint256 size, bytes32 root, bytes32[] calldata proof, uint256 validUntil, bytes32 r, bytes32 vs)
        external
    {
        uint256 newest = _newest;
        uint256 anchored = newest >> 193;
        if (size <= anchored) revert SizeNotGrowing(anchored, size);
        if (size > Proofs.MAX_SIZE) revert SizeTooLarge(Proofs.MAX_SIZE, size);
        if (root == 0) revert RootIsZero(size);
        if (block.timestamp > validUntil) revert SignatureExpired(validUntil, block.timestamp);
        if (anchored == 0) {
            // RFC 6962 has no proof from the empty tree, which every tree extends.
            if (proof.length != 0) revert ProofNotEmpty(0, proof.length);
        } else if (!Proofs.isConsistent(anchored, _roots[newest >> 160], size, root, proof)) {
            revert NotConsistent(anchored, size);
        }
        address watcher = _signer(keccak256(abi.encode(HEAD, size, root, validUntil)), r, vs);
        uint256 sizeAndTime = _place(size, block.timestamp);
        _newest = (sizeAndTime << 160) | _pass(watcher, uint160(newest));
        _roots[sizeAndTime] = root;
        emit Anchored(uint64(size), root, uint64(block.timestamp));
    }

    /// @inheritdoc ILedgerAnchor
    function announceResumption(Resumption calldata asked, Signature[] calldata approvals) external {
        bytes32 resumptionHash = _checkResumption(asked, approvals);
        if (_resumableFrom[resumptionHash] != 0) {
            revert AlreadyAnnounced(resumptionHash, _resumableFrom[resumptionHash]);
        }
        uint64 from = uint64(block.timestamp + PERIOD);
        _resumableFrom[resumptionHash] = from;
        emit ResumptionAnnounced(resumptionHash, asked.headSize, asked.headTime, asked.act, from);
    }

    /// @inheritdoc ILedgerAnchor
    function resume(Resumption calldata asked, Signature[] calldata approvals) external {
        bytes32 resumptionHash = _checkResumption(asked, approvals);
        uint64 from = _resumableFrom[resumptionHash];
        if (from == 0) revert NotAnnounced(resumptionHash);
        if (block.timestamp < from) revert NoticeNotOver(from, block.timestamp);
        _resumableFrom[resumptionHash] = type(uint64).max;
        _gaps.push(Gap(asked.headSize, asked.headTime, uint64(block.timestamp)));
        // Without a pass: who anchors next is asked after.
        _newest = _place(asked.headSize, asked.headTime) << 160;
        emit Resumed(resumptionHash, asked.headSize, asked.headTime);
    }

    /// @inheritdoc ILedgerAnchor
    function head() external view returns (Head memory) {
        uint256 sizeAndTime = _newest >> 160;
        return Head(uint64(sizeAndTime >> 33), uint64(sizeAndTime & (2 ** 33 - 1)), _roots[sizeAndTime]);
    }

    /// @inheritdoc ILedgerAnchor
    function rootAt(uint64 size, uint64 time) public view returns (bytes32 root) {
        root = _roots[_place(size, time)];
        if (root == 0) revert UnknownHead(_newest >> 193, size, time);
        for (uint256 i = 0; i < _gaps.length; ++i) {
            Gap memory gap = _gaps[i];
            bool isLater = time > gap.time || (time == gap.time && size > gap.size);
            if (isLater && time <= gap.until) revert HeadIsVoid(size, time, gap.until);
        }
    }

    /// @inheritdoc ILedgerAnchor
    function checkIncluded(
        bytes calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof
    ) external view {
        bytes32 root = rootAt(headSize, headTime);
        if (!Proofs.isIncluded(Proofs.leafHash(record), index, headSize, root, proof)) {
            revert NotIncluded(index, headSize);
        }
    }

    /// @dev An earlier head that counts, an act, and a quorum of the Council.
    function _checkResumption(Resumption calldata asked, Signature[] calldata approvals)
        private
        view
        returns (bytes32 resumptionHash)
    {
        resumptionHash = keccak256(abi.encode(RESUMPTION, asked));
        if (asked.act == 0) revert ActMissing(resumptionHash);
        bytes32 root = rootAt(asked.headSize, asked.headTime);
        if (root != asked.root) revert RootDiffers(root, asked.root);
        uint256 newest = _newest >> 160;
        if (_place(asked.headSize, asked.headTime) == newest) {
            revert NotEarlier(uint64(newest & (2 ** 33 - 1)), asked.headTime);
        }
        council.checkApproved(Names.COUNCIL, APPROVE_RESUMPTION, resumptionHash, approvals);
    }

    /// @dev Both words are part of one, so neither may spill into the other.
    function _place(uint256 size, uint256 time) private pure returns (uint256) {
        if (time >> 33 != 0) revert TimeTooLarge(2 ** 33 - 1, time);
        return (size << 33) | time;
    }

    /// @dev The sender is an operator and the signer a watcher: either both were in this period, or the Council is asked.
    function _pass(address watcher, uint160 last) private view returns (uint256) {
        uint256 period;
        unchecked {
            period = block.timestamp / PERIOD;
        }
        uint256 pass = uint160(uint256(keccak256(abi.encode(msg.sender, watcher, period))));
        if (pass == last) return pass;
        uint256 operatorUntil = council.seatedUntil(Names.OPERATOR, msg.sender);
        if (operatorUntil == 0) revert NotSeated(Names.OPERATOR, msg.sender);
        uint256 watcherUntil = council.seatedUntil(Names.WATCHER, watcher);
        if (watcherUntil == 0) revert NotSeated(Names.WATCHER, watcher);
        // A term that ends within the period gives no pass: then the Council is asked each time.
        uint256 end = (period + 1) * PERIOD;
        return operatorUntil < end || watcherUntil < end ? 0 : pass;
    }
}
